"""The work before a document is indexed: bytes to text, to clean text, to chunks.

Each step reads its input block by block and yields its output in pieces. Its memory does not grow
with the text, and its result does not depend on where blocks end.
`stages` and `worker` call the steps and report them.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, repeat

CHUNK_CHARACTERS = 800
OVERLAP_CHARACTERS = 120

_LINE_END = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
# Control characters, and hyphens, spaces and marks that only matter for typesetting.
_INVISIBLE = re.compile(r"[\0-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff]+")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_HYPHEN_AT_LINE_END = re.compile(r"(?<=[^\W\d_])-\n([^\W\d_])")
_EMPTY_LINES = re.compile(r"\n{3,}")

# Bounds the memory for an endless run of accents; no text needs so many.
_MAX_HELD_CHARACTERS = 4_096

# Where a text may be cut, the best pattern first; the cut is at the end of the match.
_CUTS = (
    re.compile(r"\n\s*\n(?=#)"),  # before a heading of Markdown
    re.compile(r"\n\s*\n"),
    re.compile(r"[.!?…][\"'\u201d\u2019)\]]*\s+"),
    re.compile(r"\s+"),
)


def decode(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of a UTF-8 file, without a byte order mark.

    Raises:
        ValueError: the file is not UTF-8; the message says where.
    """
    data, offset, line = b"", 0, 1  # bytes not decoded yet, and where they begin in the file
    for block, last in chain(zip(blocks, repeat(False)), [(b"", True)]):
        data += block
        try:
            text, used = codecs.utf_8_decode(data, "strict", last)
        except UnicodeDecodeError as error:
            line += data.count(b"\n", 0, error.start)
            raise ValueError(
                f"not UTF-8: byte 0x{data[error.start]:02x} at offset {offset + error.start}, "
                f"line {line}"
            ) from error
        yield text if offset else text.removeprefix("\ufeff")
        line += data.count(b"\n", 0, used)
        data, offset = data[used:], offset + used


def clean(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a text in a normal form, so that text that looks the same is the same.

    Line ends become newlines, control characters and invisible marks are removed, runs of spaces
    become one, words hyphenated at a line end are joined, and characters are composed (NFC).
    """
    visible = map(_remove_invisible, _keep_together(blocks))
    # Composed once more: a removed character may have stood between a letter and its accent.
    for piece in _keep_together(_tidy(visible)):
        yield unicodedata.normalize("NFC", piece)


def split(
    blocks: Iterable[str], *, size: int = CHUNK_CHARACTERS, overlap: int = OVERLAP_CHARACTERS
) -> Iterator[str]:
    """Split a text into chunks of at most `size` characters, in order.

    A cut is made before a heading if there is one in the second half of the chunk, else at the end
    of a paragraph, a sentence, or a word; a word is cut only if there is no space in that half.
    The next chunk repeats up to `overlap` characters, in whole words, so that the text around a cut
    is together in one of the two.
    """
    chunks = (
        text[_begin(text, start, overlap) : end]
        for text, start, end in _cuts(blocks, size, overlap)
    )
    return filter(None, map(str.strip, chunks))


def _keep_together(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a text in pieces that never split a letter from its accents, or a line end."""
    held = ""
    for block in blocks:
        held += block
        cut = _last_cut(held)
        yield held[:cut]
        held = held[cut:]
    yield held


def _last_cut(text: str) -> int:
    longest = max(0, len(text) - _MAX_HELD_CHARACTERS)
    for at in range(len(text) - 1, longest, -1):
        if _never_composes(text[at]) and text[at - 1] not in "\r\u00ad":
            return at
    return longest


def _never_composes(character: str) -> bool:
    """Return whether a character is never composed with the one before it.

    Not all such characters are covered, but every long text has some of these: Latin, Chinese and
    Korean.
    """
    return (
        character < "\u0300"
        or "\u4e00" <= character <= "\u9fff"
        or "\uac00" <= character <= "\ud7a3"
    )


def _remove_invisible(text: str) -> str:
    text = _LINE_END.sub("\n", unicodedata.normalize("NFC", text))
    return _INVISIBLE.sub("", text.replace("\u00ad\n", ""))


def _tidy(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a text without superfluous spaces, empty lines, and hyphens at line ends."""
    held = ""  # may change with the next block: spaces at the end, a letter and a hyphen before
    begun = False
    for block in blocks:
        text = _tidy_lines(held + block)
        if not begun:
            text = text.lstrip()
        cut = max(0, len(text.rstrip()) - 2)
        yield text[:cut]
        held = text[cut:]
        begun = begun or cut > 0
    yield held.rstrip()


def _tidy_lines(text: str) -> str:
    text = _SPACES.sub(" ", text).replace(" \n", "\n").replace("\n ", "\n")
    return _HYPHEN_AT_LINE_END.sub(_join, _EMPTY_LINES.sub("\n\n", text))


def _join(hyphen: re.Match[str]) -> str:
    """Join a word, unless its second part is capitalized: `Anglo-Saxon` keeps its hyphen."""
    following: str = hyphen[1]
    return following if following.islower() else hyphen[0]


def _cuts(blocks: Iterable[str], size: int, overlap: int) -> Iterator[tuple[str, int, int]]:
    """Yield where pieces begin and end, each with a part of the text that includes its overlap."""
    limit = size - overlap
    text, start = "", 0
    for block in blocks:
        text += block
        while start + limit < len(text):
            end = _cut(text, start, limit)
            yield text, start, end
            start = end
        repeated = max(0, start - overlap)
        text, start = text[repeated:], start - repeated
    yield text, start, len(text)


def _cut(text: str, start: int, limit: int) -> int:
    """Return the best end, within `limit` characters, of the piece that begins at `start`."""
    end = start + limit
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
