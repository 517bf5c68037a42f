"""Bytes to text to clean text to chunks: nothing is lost, no chunk is too large."""

from __future__ import annotations

import sys
import tracemalloc
import unicodedata
from collections.abc import Callable
from itertools import pairwise, product, repeat
from typing import AnyStr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagecast.demo import text as streaming
from tests.demo import plain

words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30)
texts = st.text() | st.lists(words | st.sampled_from([" ", "\n", "\n\n", ". ", "? ", "\n# "])).map(
    "".join
)
long_texts = st.lists(
    words | st.sampled_from([". ", "\n\n", "\n", "! ", "\n\n# Heading\n\n"]), max_size=300
).map(" ".join)

# Characters that matter at the end of a block: accents, line ends, hyphens, marks without width.
parts = st.sampled_from(
    [
        *("a", "b", "A", "1", "é", "字", "한", "\u1112", "\u1161", "\u11ab", "\u0958", "\u212a"),
        *("\u0301", "\u0323", "\u0345", "\u3099", "か", "\u09c7", "\u09be"),
        *("\r", "\n", "\r\n", "\v", "\x85", "\u2028", " ", "\t", "\u00a0", "\u3000"),
        *("-", "-\n", "\u00ad", "\u00ad\n", "\u200b", "\ufeff", "\0", "\x1f", "# ", ". "),
    ]
)
awkward_texts = st.lists(parts | st.characters(codec="utf-8"), max_size=60).map("".join)


def decode(data: bytes) -> str:
    return "".join(streaming.decode([data]))


def clean(text: str) -> str:
    return "".join(streaming.clean([text]))


def split(text: str, **sizes: int) -> list[str]:
    return list(streaming.split([text], **sizes))


def outcome(decode: Callable[[bytes], str], data: bytes) -> str:
    """Return the text, or the error message for invalid bytes."""
    try:
        return decode(data)
    except ValueError as error:
        return f"ValueError: {error}"


def blocks_of(whole: AnyStr, data: st.DataObject) -> list[AnyStr]:
    """Return blocks that end anywhere, some of them empty."""
    ends: list[int] = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    return [whole[start:end] for start, end in pairwise([0, *ends, len(whole)])]


@pytest.mark.parametrize("data", ["grün".encode(), "\ufeffgrün".encode()])
def test_decode_accepts_utf8_with_and_without_byte_order_mark(data: bytes) -> None:
    assert decode(data) == "grün"


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"one\ntwo \xff\n", "byte 0xff at offset 8, line 2"),
        (b"\xef\xbb\xbfab\xfe", "byte 0xfe at offset 5, line 1"),
        ("grün".encode("utf-16"), "byte 0xff at offset 0, line 1"),
    ],
)
def test_decode_says_where_a_file_is_not_utf8(data: bytes, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        decode(data)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("  a \t\u00a0 b  \n   c ", "a b\nc"),
        ("a\n\n\n \n\nb", "a\n\nb"),
        ("u\u0308ber", "über"),
        ("u\u200b\u0308ber", "über"),
        ("a hyphen-\nated word", "a hyphenated word"),
        ("a hyphen- \r\nated word", "a hyphenated word"),
        ("a soft\u00adly hyphen\u00ad\nated word", "a softly hyphenated word"),
        ("Anglo-\nSaxon, 1-\n2, -\nb", "Anglo-\nSaxon, 1-\n2, -\nb"),
        ("- one\n- two", "- one\n- two"),
        (" \n\x00\t", ""),
    ],
)
def test_clean_normalizes_texts(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(texts)
def test_clean_text_is_composed_and_without_control_characters(text: str) -> None:
    cleaned = clean(text)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not [c for c in cleaned if c != "\n" and unicodedata.category(c) == "Cc"]
    assert "  " not in cleaned
    assert "\n\n\n" not in cleaned


@given(st.lists(words.filter(lambda word: "-" not in word), max_size=50))
def test_clean_keeps_every_word(some: list[str]) -> None:
    expected = unicodedata.normalize("NFC", "  ".join(some)).split()
    assert clean("  ".join(some)).split() == expected


@given(long_texts)
def test_every_word_is_in_some_chunk_in_order(text: str) -> None:
    position = 0
    chunks = [chunk.split() for chunk in split(text)]
    for word in text.split():
        while position < len(chunks) and word not in chunks[position]:
            position += 1
        assert position < len(chunks), f"{word!r} was lost"


@given(st.integers(0, 2_000))
def test_chunks_overlap_and_leave_nothing_out(count: int) -> None:
    """With distinct words, the new words of each chunk are known exactly."""
    text = " ".join(f"w{number}{'.' if number % 9 == 0 else ''}" for number in range(count))
    covered = 0
    for chunk in split(text):
        numbers = [int(word.strip("w.")) for word in chunk.split()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[0] <= covered < numbers[-1] + 1
        if covered:
            assert numbers[0] < covered, "the chunk does not overlap the one before"
        covered = numbers[-1] + 1
    assert covered == count


@given(long_texts | st.text(min_size=1_000), st.integers(10, 900), st.data())
def test_no_chunk_is_too_large_or_empty(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    chunks = split(text, size=size, overlap=overlap)
    assert all(chunk.strip() and len(chunk) <= size for chunk in chunks)
    assert bool(chunks) == bool(text.strip())


def test_endless_word_is_cut() -> None:
    chunks = split("x" * 2_000)
    assert "".join(chunks) == "x" * 2_000
    assert all(len(chunk) <= 800 for chunk in chunks)


def test_cuts_are_made_at_paragraphs_before_sentences() -> None:
    sentence = "A sentence of some forty letters or so. "
    paragraph = (sentence * 6).strip()
    text = "\n\n".join([paragraph] * 8)
    assert all(chunk.endswith(paragraph) for chunk in split(text))
    one = sentence * 60
    assert all(chunk.endswith("or so.") for chunk in split(one))


def test_a_heading_goes_with_the_text_below_it() -> None:
    section = "# Heading\n\n" + "Some words that fill the section. " * 14
    chunks = split(clean("\n\n".join([section] * 5)))
    assert len(chunks) > 3
    assert not [chunk for chunk in chunks if chunk.endswith("# Heading")]


@given(st.binary(max_size=40) | awkward_texts.map(str.encode) | texts.map(str.encode), st.data())
def test_decode_does_not_depend_on_where_blocks_end(whole: bytes, data: st.DataObject) -> None:
    def streamed(whole: bytes) -> str:
        return "".join(streaming.decode(blocks_of(whole, data)))

    assert outcome(streamed, whole) == outcome(plain.decode, whole)


@settings(max_examples=500)
@given(awkward_texts | texts, st.data())
def test_clean_does_not_depend_on_where_blocks_end(whole: str, data: st.DataObject) -> None:
    assert "".join(streaming.clean(blocks_of(whole, data))) == plain.clean(whole)


@pytest.mark.parametrize("characters", ["aB-\n\u00ad", "a\u0301\u200b\n\r", "a- \n\0"])
def test_clean_accepts_a_text_character_by_character(characters: str) -> None:
    for text in map("".join, product(characters, repeat=6)):
        assert "".join(streaming.clean(text)) == plain.clean(text)


@given(long_texts | st.text(min_size=1_000), st.integers(10, 900), st.data())
def test_split_does_not_depend_on_where_blocks_end(
    whole: str, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    chunks = list(streaming.split(blocks_of(whole, data), size=size, overlap=overlap))
    assert chunks == plain.split(whole, size=size, overlap=overlap)


def test_characters_said_to_never_compose_do_not_compose() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    seconds = {
        decomposed.split()[1]
        for decomposed in map(unicodedata.decomposition, characters)
        if " " in decomposed and not decomposed.startswith("<")
    }
    alone = [character for character in characters if streaming._never_composes(character)]
    assert not [c for c in alone if unicodedata.combining(c) or f"{ord(c):04X}" in seconds]


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [b"word ", b"x", b" ", b"\r", b"\0", b"-\n", b"a-", b"\xcc\x81", b"\xc2\xad", b"\n \0"],
    ids=repr,
)
def test_memory_of_all_steps_is_bounded_for_any_text(part: bytes) -> None:
    block = part * (20_000 // len(part))
    assert memory_of(block, times=100) < 1.5 * memory_of(block, times=20)


def memory_of(block: bytes, *, times: int) -> int:
    """Return the peak memory in bytes of all steps on `times` blocks."""
    tracemalloc.start()
    try:
        for _ in streaming.split(streaming.clean(streaming.decode(repeat(block, times)))):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
