"""Where a credential stands in an `Authorization` header."""

from __future__ import annotations


def bearer_of(header: str) -> str | None:
    """Return what the header bears, or `None` if it is of another scheme."""
    scheme, _, credential = header.strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else None
