"""Escaping of untrusted texts for terminals, logs and messages, so that they can be restored.

Only the characters that ids may not have are escaped, one by one. So an id is shown unchanged, and
no text can move the cursor, end a line or change the direction of the text around it.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import TextIO

_BIDI_CONTROLS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_MAX_QUOTED = 256  # characters, so that no id is cut


def is_printable(text: str) -> bool:
    """Return whether a text has no control characters, line breaks or bidirectional controls.

    `str.isprintable` would also reject spaces that are common in file names, and letters that are
    newer than this Python.
    """
    # Most texts are ASCII, which is checked faster.
    return (text.isascii() and text.isprintable()) or not any(map(_is_forbidden, text))


def escape_controls(text: str) -> str:
    r"""Return a text with the characters that ids may not have escaped: `\n`, `\x1b`, `\u202e`.

    A printable text is returned unchanged, so no two ids look the same.
    An undecodable byte of a file name, which is a lone surrogate in Python, becomes `\xff`.
    """
    return _escape(text, escape_character)


def escape(text: str) -> str:
    r"""Return a text like `escape_controls`, with backslashes doubled: no two look the same."""
    return _escape(text.replace("\\", r"\\"), escape_character)


def escape_for(text: str, encoding: str) -> str:
    r"""Return a text for an output, like `escape_controls` if its encoding has all characters.

    Otherwise missing characters become `\u00e9` and backslashes are doubled: no two look the same.
    """
    if not lacks_characters(encoding):
        return escape_controls(text)
    return escape_lacking(escape(text), encoding)


def escape_lacking(text: str, encoding: str) -> str:
    r"""Return a text, possibly escaped, with `\u00e9` for characters that an encoding lacks."""
    return "".join(c if _encodes(encoding, c) else escape_character(c) for c in text)


def encoding_of(output: TextIO | None) -> str:
    """Return the encoding of stdout or stderr, UTF-8 if it is closed."""
    return (output and output.encoding) or "utf-8"


@lru_cache
def lacks_characters(encoding: str) -> bool:
    """Return whether an encoding cannot represent all characters."""
    return not _encodes(encoding, "\U0001f4c4")


def escape_character(character: str) -> str:
    r"""Return the escape sequence of a character, such as `\u00e9`; no other has the same."""
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte by `os.fsdecode`; so `\x80` is that, not U+0080
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_json(document: str) -> str:
    r"""Return JSON on one line, with `\u001b` where `escape_controls` escapes."""
    return _escape(document, lambda character: f"\\u{ord(character):04x}")


def quote(text: str) -> str:
    """Return a text for a message: escaped, quoted, and cut if it is longer than any id."""
    if len(text) > _MAX_QUOTED:
        text = text[: _MAX_QUOTED - 1] + "…"
    return f"'{escape_controls(text)}'"


def quote_for_shell(text: str, encoding: str = "utf-8") -> str:
    """Return a text quoted for a shell, also if it cannot be shown unescaped."""
    if is_printable(text) and _encodes(encoding, text):
        return shlex.quote(text)
    escaped = escape(text).replace("'", r"\'")
    # As bytes: the encoding of the shell may lack the character as well.
    return "$'" + "".join(c if _encodes(encoding, c) else _bytes_of(c) for c in escaped) + "'"


def _bytes_of(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _encodes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(text: str, escape_one: Callable[[str], str]) -> str:
    if is_printable(text):
        return text
    return "".join(escape_one(c) if _is_forbidden(c) else c for c in text)


def _is_forbidden(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in _BIDI_CONTROLS
    )
