"""Where a credential stands in an `Authorization` header."""

from __future__ import annotations

_BLANKS = " \t"  # of HTTP; no-break spaces are a part of what stands there


def bearer_of(header: str) -> str | None:
    """Return what the header bears, or `None` if it is of another scheme."""
    scheme, _, credential = header.strip(_BLANKS).partition(" ")
    return credential.strip(_BLANKS) if scheme.lower() == "bearer" else None
