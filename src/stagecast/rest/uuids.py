"""UUIDs and error messages as in the validator of Cognee's server.

That is pydantic up to 2.12, which uses the Rust crate `uuid`; later messages are shorter.
Positions are counted in bytes of UTF-8, from 1.
"""

from __future__ import annotations

import re

_HYPHENATED = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SIMPLE = re.compile(r"[0-9A-Fa-f]{32}")
_FOREIGN = re.compile(r"[^0-9A-Fa-f-]")

_HYPHENATED_BYTES = 36
_URN = "urn:uuid:"
_GROUPS = (8, 4, 4, 4, 12)


class InvalidUuid(ValueError):
    """Invalid UUID; the message says why."""


def parse_uuid(text: str) -> str:
    """Return a UUID in canonical form: lower case, with dashes.

    Also accepted are upper case, no dashes, the prefix `urn:uuid:`, and braces.

    Raises:
        InvalidUuid: the text is invalid.
    """
    inner, _ = _unwrap(text)
    if not (_HYPHENATED.fullmatch(inner) or _SIMPLE.fullmatch(text)):
        # If the length is right, the crate unwraps the UUID before it looks for the error.
        well_wrapped = inner != text and len(inner.encode()) == _HYPHENATED_BYTES
        raise InvalidUuid(_error_message(inner if well_wrapped else text))
    digits = inner.lower().replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _unwrap(text: str) -> tuple[str, int]:
    """Return the text without braces or URN prefix, and how many bytes were before it."""
    if len(text) >= 2 and text[0] == "{" and text[-1] == "}":
        return text[1:-1], 1
    if text.startswith(_URN):
        return text[len(_URN) :], len(_URN)
    return text, 0


def _error_message(text: str) -> str:
    """Return the error message for a text, with the checks in the order of the crate."""
    inner, offset = _unwrap(text)
    foreign = _FOREIGN.search(inner)
    if foreign:
        before = len(inner[: foreign.start()].encode())
        return (
            "invalid character: expected an optional prefix of `urn:uuid:` followed by "
            f"[0-9a-fA-F-], found `{foreign[0]}` at {before + offset + 1}"
        )
    groups = inner.split("-")
    if len(groups) == 1 and not offset:
        return f"invalid length: expected length 32 for simple format, found {len(text)}"
    if len(groups) != len(_GROUPS):
        return f"invalid group count: expected 5, found {len(groups)}"
    # The crate counts braces and prefix as part of the last group, and so do we.
    lengths = [*map(len, groups[:4]), len(groups[4]) + len(text) - len(inner)]
    wrong = next(n for n, length in enumerate(lengths) if n == 4 or length != _GROUPS[n])
    return (
        f"invalid group length in group {wrong}: expected {_GROUPS[wrong]}, found {lengths[wrong]}"
    )
