"""Bytes to text to clean text to chunks: nothing is lost, and nothing is too large."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.cli.text import clean, decode, split

words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30)
texts = st.text() | st.lists(words | st.sampled_from([" ", "\n", "\n\n", ". ", "? ", "\n# "])).map(
    "".join
)
long_texts = st.lists(
    words | st.sampled_from([". ", "\n\n", "\n", "! ", "\n\n# Heading\n\n"]), max_size=300
).map(" ".join)


@pytest.mark.parametrize("data", ["grün".encode(), "\ufeffgrün".encode()])
def test_decode_takes_utf8_with_and_without_byte_order_mark(data: bytes) -> None:
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
def test_clean_brings_texts_to_one_form(text: str, cleaned: str) -> None:
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
    """With words that are all different, what each chunk adds is known exactly."""
    text = " ".join(f"w{number}{'.' if number % 9 == 0 else ''}" for number in range(count))
    seen = 0
    for chunk in split(text):
        numbers = [int(word.strip("w.")) for word in chunk.split()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[0] <= seen < numbers[-1] + 1
        if seen:
            assert numbers[0] < seen, "the chunk repeats nothing of the one before"
        seen = numbers[-1] + 1
    assert seen == count


@given(long_texts | st.text(min_size=1_000), st.integers(10, 900), st.data())
def test_no_chunk_is_too_large_or_empty(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    chunks = split(text, size=size, overlap=overlap)
    assert all(chunk.strip() and len(chunk) <= size for chunk in chunks)
    assert bool(chunks) == bool(text.strip())


def test_a_word_without_end_is_cut() -> None:
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
