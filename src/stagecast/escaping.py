"""Texts of others, written so that what is shown can be given back.

The characters that no id may have are escaped, each by itself, and nothing else is changed. So an
id is shown as it is, and no text can move a cursor, end a line or turn what stands around it.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Callable

_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_MAX_QUOTED = 256  # characters, so that no id is cut


def is_printable(text: str) -> bool:
    """Tell whether a text has no control character, line break or turn of direction.

    `str.isprintable` would also refuse spaces that are common in file names, and letters that are
    newer than this Python.
    """
    # Most texts are ASCII, and those are quickly told.
    return (text.isascii() and text.isprintable()) or not any(map(_is_forbidden, text))


def escape_controls(text: str) -> str:
    r"""Return a text with `\n`, `\x1b`, `\u202e` for what an id may not have.

    It is the text itself if `is_printable`, so that no two ids look the same.
    A byte of a file name that is no text, which Python has as a lone surrogate, becomes `\xff`.
    """
    return _escape(text, _escape_control)


def escape(text: str) -> str:
    r"""Return a text like `escape_controls`, with backslashes doubled: two never look the same."""
    return _escape(text.replace("\\", r"\\"), _escape_control)


def escape_json(document: str) -> str:
    r"""Return JSON on one line with `\u001b` for what `escape_controls` escapes."""
    return _escape(document, lambda character: f"\\u{ord(character):04x}")


def quote(text: str) -> str:
    """Return a text for a message: escaped, between quotes, and cut if it is longer than any id."""
    if len(text) > _MAX_QUOTED:
        text = text[: _MAX_QUOTED - 1] + "…"
    return f"'{escape_controls(text)}'"


def quote_for_shell(text: str) -> str:
    """Return a text as shells take it, also one that cannot be shown as it is."""
    if is_printable(text):
        return shlex.quote(text)
    return "$'" + escape(text).replace("'", r"\'") + "'"


def _escape(text: str, escape_one: Callable[[str], str]) -> str:
    if is_printable(text):
        return text
    return "".join(escape_one(c) if _is_forbidden(c) else c for c in text)


def _escape_control(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # as `os.fsdecode` has a byte; so `\x80` is that, not U+0080
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _is_forbidden(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in _TURNS
    )
