"""Credentials: keys that the store keeps, tokens that somebody else signed, and who they stand for.

Free of gRPC, HTTP and SQL.
"""

from __future__ import annotations

from stagecast.auth.authenticator import Authenticator
from stagecast.auth.bearer import bearer_of
from stagecast.auth.keys import create_key, list_keys, revoke_key
from stagecast.auth.ring import KeyRing
from stagecast.auth.secret import prefix_of
from stagecast.auth.tokens import TokenVerifier, load_verifier

__all__ = [
    "Authenticator",
    "KeyRing",
    "TokenVerifier",
    "bearer_of",
    "create_key",
    "list_keys",
    "load_verifier",
    "prefix_of",
    "revoke_key",
]
