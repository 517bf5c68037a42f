"""What is shown can be given back: ids as they are, everything else reversibly."""

from __future__ import annotations

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.errors import FieldInvalid
from stagecast.escaping import escape, escape_controls, escape_json, is_printable, quote
from stagecast.wire import checks

# Whatever Python can hold, also what is no character at all; controls more often than by chance.
ANY = st.text(
    st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("\\ \t\n\r\x00\x1b\x7f\x85\u2028\u202e\u3000\ud800\udc85xunrt08"),
    )
)
_ESCAPED = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        letter, byte, code = match.groups()
        if letter:
            return {"n": "\n", "r": "\r", "t": "\t"}.get(letter, letter)
        return os.fsdecode(bytes([int(byte, 16)])) if byte else chr(int(code, 16))

    return _ESCAPED.sub(character, text)


@given(ANY)
def test_whatever_is_escaped_can_be_given_back(text: str) -> None:
    assert unescape(escape(text)) == text


@given(ANY)
def test_whatever_is_escaped_is_one_printable_line(text: str) -> None:
    for shown in (escape(text), escape_controls(text), quote(text)):
        assert is_printable(shown)
        shown.encode()


@given(ANY.filter(bool))
def test_what_the_server_takes_as_an_id_is_shown_as_it_is(text: str) -> None:
    try:
        checks.document_id("document_id", text)
    except FieldInvalid:
        assert escape_controls(text) != text
    else:
        assert escape_controls(text) == text
        assert quote(text) == f"'{text}'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two  spaces", "two  spaces"),
        ("報告\u3000書.txt", "報告\u3000書.txt"),
        ("C:\\new", "C:\\new"),
        ("it's", "it's"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x00\x1b[2J\x7f", r"\x00\x1b[2J\x7f"),
        ("\x85\u2028\u202e", r"\u0085\u2028\u202e"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_only_what_no_id_may_have_is_escaped_each_by_itself(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


def test_backslashes_are_doubled_only_where_the_text_may_be_anything() -> None:
    assert escape("C:\\new\n") == "C:\\\\new\\n"


def test_a_quoted_text_is_cut_only_if_it_is_longer_than_any_id() -> None:
    assert quote("x" * 256) == f"'{'x' * 256}'"
    assert quote("x" * 257) == f"'{'x' * 255}…'"


@given(ANY)
def test_escaped_json_is_the_same_json_on_one_printable_line(text: str) -> None:
    document = escape_json(json.dumps({"text": text}, ensure_ascii=False))
    assert is_printable(document)
    assert json.loads(document) == {"text": text}
