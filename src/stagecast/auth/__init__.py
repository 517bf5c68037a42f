"""Credentials: keys in the store, tokens of an external signer, and their principals.

Free of gRPC, HTTP and SQL.
"""

from __future__ import annotations

from stagecast.auth.authenticator import Authenticator, bearer_of
from stagecast.auth.key_cache import KeyCache
from stagecast.auth.keys import add_key, make_new_key, revoke_key
from stagecast.auth.secret import prefix_of
from stagecast.auth.sessions import LIFE_S, Sessions, forgery_token
from stagecast.auth.tokens import TokenVerifier, load_verifier

__all__ = [
    "LIFE_S",
    "Authenticator",
    "KeyCache",
    "Sessions",
    "TokenVerifier",
    "add_key",
    "bearer_of",
    "forgery_token",
    "load_verifier",
    "make_new_key",
    "prefix_of",
    "revoke_key",
]
