"""Imports grpc without the log that its core writes to stderr, such as about a TLS handshake.

What matters of it is in the errors of the calls. The core reads the variable once, when it is
imported, so a program that has set it, or has imported grpc before, is not affected; nor are the
processes that it starts.
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
