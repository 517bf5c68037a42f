"""Long runs under injected faults, where one validator checks what every watcher received.

`python -m tests.soak` is the long one; the tests run a short one.
"""

from __future__ import annotations
