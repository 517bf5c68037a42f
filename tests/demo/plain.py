"""The steps of `stagecast.demo.text` on a whole text at once, for comparison."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_LINE_END = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
# Hyphens, spaces and marks that only matter for typesetting.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]+")
_HYPHEN_AT_LINE_END = re.compile(r"(?<=[^\W\d_])-\n([^\W\d_])")
_EMPTY_LINES = re.compile(r"\n{3,}")

# Where a text may be cut, the best pattern first; the cut is at the end of the match.
_CUTS = (
    re.compile(r"\n\s*\n(?=#)"),  # before a heading of Markdown
    re.compile(r"\n\s*\n"),
    re.compile(r"[.!?…][\"'\u201d\u2019)\]]*\s+"),
    re.compile(r"\s+"),
)


def decode(data: bytes) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        ValueError: the file is not UTF-8; the message says where.
    """
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}, line {line}"
        ) from error


def clean(text: str) -> str:
    """Return a text in the normal form of `stagecast.demo.text.clean`."""
    text = _LINE_END.sub("\n", unicodedata.normalize("NFC", text))
    text = _INVISIBLE.sub("", text.replace("\u00ad\n", ""))
    text = "".join(c for c in text if c in "\t\n" or unicodedata.category(c) != "Cc")
    text = "\n".join(line.strip() for line in _SPACES.sub(" ", text).split("\n"))
    text = _HYPHEN_AT_LINE_END.sub(_join, text)
    # Once more: a removed character may have stood between a letter and its accent.
    return unicodedata.normalize("NFC", _EMPTY_LINES.sub("\n\n", text).strip())


def split(text: str, *, size: int, overlap: int) -> list[str]:
    """Split a text by the rules of `stagecast.demo.text.split`."""
    cuts = [0]
    while cuts[-1] < len(text):
        cuts.append(_cut(text, cuts[-1], size - overlap))
    chunks = (text[_begin(text, start, overlap) : end].strip() for start, end in pairwise(cuts))
    return [chunk for chunk in chunks if chunk]


def _join(hyphen: re.Match[str]) -> str:
    """Join a word, unless its second part is capitalized: `Anglo-Saxon` keeps its hyphen."""
    following: str = hyphen[1]
    return following if following.islower() else hyphen[0]


def _cut(text: str, start: int, limit: int) -> int:
    """Return the best end, within `limit` characters, of the piece that begins at `start`."""
    end = start + limit
    if end >= len(text):
        return len(text)
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(text, start + limit // 2, end)]
        if ends:
            return ends[-1]
    return end


def _begin(text: str, start: int, overlap: int) -> int:
    """Return where the chunk of the piece at `start` begins: at a sentence or word before it."""
    if start == 0:
        return 0
    for pattern in _CUTS[2:]:
        repeated = pattern.search(text, max(0, start - overlap), start)
        if repeated and repeated.end() < start:
            return repeated.end()
    return start
