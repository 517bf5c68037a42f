"""Long runs that break things on purpose, and check with one validator what every watcher received.

`python -m tests.soak` is the long one; the tests run a short one.
"""

from __future__ import annotations
