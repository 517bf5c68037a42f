"""The steps of `stagecast.demo.text` on a whole text at once: what they are held against."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_LINE_END = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
# Hyphens, spaces and marks that are for typesetting only.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]+")
_HYPHEN_AT_LINE_END = re.compile(r"(?<=[^\W\d_])-\n([^\W\d_])")
_EMPTY_LINES = re.compile(r"\n{3,}")

# Where a text may be cut, the best place first; the cut is at the end of what matches.
_CUTS = (
    re.compile(r"\n\s*\n(?=#)"),  # before a heading of Markdown
    re.compile(r"\n\s*\n"),
    re.compile(r"[.!?…][\"'\u201d\u2019)\]]*\s+"),
    re.compile(r"\s+"),
)


def decode(data: bytes) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that some begin with.

    Raises:
        ValueError: it is not UTF-8; the message says where.
    """
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}, line {line}"
        ) from error


def clean(text: str) -> str:
    """Return a text in one normal form: what looks the same is the same.

    All line ends become one, control characters and invisible marks go, runs of spaces become one,
    words that were hyphenated at a line end are joined, and the characters are composed (NFC).
    """
    text = _LINE_END.sub("\n", unicodedata.normalize("NFC", text))
    text = _INVISIBLE.sub("", text.replace("\u00ad\n", ""))
    text = "".join(c for c in text if c in "\t\n" or unicodedata.category(c) != "Cc")
    text = "\n".join(line.strip() for line in _SPACES.sub(" ", text).split("\n"))
    text = _HYPHEN_AT_LINE_END.sub(_join, text)
    # Once more: what was taken out may have stood between a letter and its accent.
    return unicodedata.normalize("NFC", _EMPTY_LINES.sub("\n\n", text).strip())


def split(text: str, *, size: int, overlap: int) -> list[str]:
    """Cut a text into chunks of at most `size` characters, in its order.

    A cut is made before a heading if there is one in the second half of the chunk, else at the end
    of a paragraph, a sentence, or a word; a word is cut only if there is no space in that half.
    The next chunk repeats up to `overlap` characters, in whole words, so that what stands around a
    cut is together in one of the two.
    """
    cuts = [0]
    while cuts[-1] < len(text):
        cuts.append(_cut(text, cuts[-1], size - overlap))
    chunks = (text[_begin(text, start, overlap) : end].strip() for start, end in pairwise(cuts))
    return [chunk for chunk in chunks if chunk]


def _join(hyphen: re.Match[str]) -> str:
    """Join a word, unless what follows is a name: `Anglo-Saxon` keeps its hyphen."""
    following: str = hyphen[1]
    return following if following.islower() else hyphen[0]


def _cut(text: str, start: int, limit: int) -> int:
    """Return where the piece that begins at `start` ends best, at most so many characters on."""
    end = start + limit
    if end >= len(text):
        return len(text)
    for place in _CUTS:
        ends = [match.end() for match in place.finditer(text, start + limit // 2, end)]
        if ends:
            return ends[-1]
    return end


def _begin(text: str, start: int, overlap: int) -> int:
    """Return where the chunk begins whose own text begins at `start`: with a sentence or a word."""
    if start == 0:
        return 0
    for place in _CUTS[2:]:
        repeated = place.search(text, max(0, start - overlap), start)
        if repeated and repeated.end() < start:
            return repeated.end()
    return start
