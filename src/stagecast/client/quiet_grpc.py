"""Imports grpc without the log that its core writes to stderr, such as about a TLS handshake.

The errors of the calls have what matters of it. The core reads the variable once, when it is
imported. So programs that have set it themselves, or have imported grpc before, keep their log; and
the processes that a program starts do not inherit it.
"""

from __future__ import annotations

import os

_VARIABLE = "GRPC_VERBOSITY"

if os.environ.get(_VARIABLE):
    import grpc
else:
    os.environ[_VARIABLE] = "NONE"
    import grpc

    del os.environ[_VARIABLE]

__all__ = ["grpc"]
