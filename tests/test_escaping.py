"""Escaped texts can be restored; ids are not changed."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.errors import FieldInvalid
from stagecast.escaping import (
    escape,
    escape_controls,
    escape_for,
    escape_json,
    is_printable,
    quote,
    quote_for_shell,
)
from stagecast.wire import checks

# Any string, also with lone surrogates; control characters more often than by chance.
ANY = st.text(
    st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("\\ \t\n\r\x00\x1b\x7f\x85\u2028\u202e\u3000\ud800\udc85xunrt08"),
    )
)
_ESCAPED = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        letter, byte, short, long = match.groups()
        if letter:
            return {"n": "\n", "r": "\r", "t": "\t"}.get(letter, letter)
        return os.fsdecode(bytes([int(byte, 16)])) if byte else chr(int(short or long, 16))

    return _ESCAPED.sub(character, text)


@given(ANY)
def test_escaped_text_can_be_restored(text: str) -> None:
    assert unescape(escape(text)) == text


@given(ANY, st.sampled_from(["ascii", "latin-1", "cp1252"]))
def test_text_escaped_for_an_encoding_can_be_restored(text: str, encoding: str) -> None:
    shown = escape_for(text, encoding)
    assert unescape(shown.encode(encoding).decode(encoding)) == text


@given(ANY)
def test_complete_encoding_needs_only_controls_escaped(text: str) -> None:
    assert escape_for(text, "utf-8") == escape_controls(text)


@pytest.mark.parametrize("text", ["café", r"caf\xe9", "it's\n", "報告 \U0001f4c4", "\x1b'\\"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_shell_restores_a_quoted_text(text: str, encoding: str) -> None:
    line = f"printf %s {quote_for_shell(text, encoding)}"
    line.encode(encoding)
    shell = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True)
    assert shell.stdout.decode() == text


@given(ANY)
def test_escaped_text_is_one_printable_line(text: str) -> None:
    for shown in (escape(text), escape_controls(text), quote(text)):
        assert is_printable(shown)
        shown.encode()


@given(ANY.filter(bool))
def test_valid_id_is_shown_unchanged(text: str) -> None:
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
def test_only_characters_forbidden_in_ids_are_escaped(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


def test_escape_doubles_backslashes() -> None:
    assert escape("C:\\new\n") == "C:\\\\new\\n"


def test_quoted_text_is_cut_only_if_longer_than_any_id() -> None:
    assert quote("x" * 256) == f"'{'x' * 256}'"
    assert quote("x" * 257) == f"'{'x' * 255}…'"


@given(ANY)
def test_escaped_json_is_the_same_json_on_one_printable_line(text: str) -> None:
    document = escape_json(json.dumps({"text": text}, ensure_ascii=False))
    assert is_printable(document)
    assert json.loads(document) == {"text": text}
