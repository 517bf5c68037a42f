"""Tokens come back as they were given, and whatever else comes back is refused."""

from __future__ import annotations

import base64
import itertools
import string
import zlib
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.errors import FieldInvalid, TokenInvalid
from stagecast.model import PageToken, ResumeToken, tokens

LETTERS = string.ascii_letters + string.digits + "-_"
IDS: dict[str, Any] = {"dataset_id": "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11", "batch_id": "b-1"}
NUMBERS = [field.name for field in fields(ResumeToken) if field.name not in IDS]
SHORT = "abc"  # any letters will do
SECRET = bytes(range(32))
QUESTION = (SECRET, "d", "b", ("RUNNING",), None)

ids = st.fixed_dictionaries({"dataset_id": st.text(), "batch_id": st.text()})
int64 = st.integers(-(2**63), 2**63 - 1)
resume_tokens = st.builds(
    ResumeToken, dataset_id=st.text(), batch_id=st.text(), **dict.fromkeys(NUMBERS, int64)
)
questions = st.lists(st.none() | st.booleans() | st.integers() | st.text(), max_size=5).map(tuple)
page_tokens = st.builds(
    PageToken,
    after=st.text(),
    resume_token=st.just("") | resume_tokens.map(ResumeToken.encode),
)

NO_TOKENS = {
    "one_letter": "A",
    "two_letters": "AQ",
    "empty_payload": "AaUF3xs",
    "zeros": "A" * 50,
    "text": "not a token",
    "blank": " ",
    "padding": "====",
    "nul": "\x00",
    "umlaut": "ü" * 50,
    "surrogate": "\ud800",
    "other_digits": "١٢٣٤",
    "very_long": "A" * 100_000,
}


def resume_token() -> ResumeToken:
    """Return a token whose numbers are small, large, negative."""
    numbers: dict[str, Any] = dict(
        zip(NUMBERS, itertools.cycle((7, -(2**40), 2**62)), strict=False)
    )
    return ResumeToken(**IDS, **numbers)


def decode_resume(text: str) -> ResumeToken:
    return ResumeToken.decode(text, **IDS)


def decode_page(text: str) -> PageToken:
    return PageToken.decode(text, *QUESTION)


VALUE = {
    "resume": (resume_token().encode(), decode_resume, TokenInvalid),
    "page": (
        PageToken(after="5", resume_token=SHORT).encode(*QUESTION),
        decode_page,
        FieldInvalid,
    ),
    "page_with_resume": (
        PageToken(after="5", resume_token=resume_token().encode()).encode(*QUESTION),
        decode_page,
        FieldInvalid,
    ),
}
given_tokens = pytest.mark.parametrize(
    ("text", "decode", "refusal"), VALUE.values(), ids=list(VALUE)
)


@given(token=resume_tokens)
def test_resume_token_comes_back_as_it_was_given(token: ResumeToken) -> None:
    again = ResumeToken.decode(token.encode(), dataset_id=token.dataset_id, batch_id=token.batch_id)
    assert again == token


@given(token=page_tokens, question=questions)
def test_page_token_comes_back_as_it_was_given(token: PageToken, question: tuple[Any, ...]) -> None:
    assert PageToken.decode(token.encode(SECRET, *question), SECRET, *question) == token


@given(token=resume_tokens)
def test_token_is_plain_letters_that_need_no_escape_in_a_url(token: ResumeToken) -> None:
    page = PageToken(after="1", resume_token=token.encode()).encode(SECRET)
    assert set(token.encode() + page) <= set(LETTERS)


@given(token=resume_tokens, others=ids)
def test_resume_token_is_refused_for_any_other_batch(
    token: ResumeToken, others: dict[str, str]
) -> None:
    if (token.dataset_id, token.batch_id) == (others["dataset_id"], others["batch_id"]):
        return
    with pytest.raises(TokenInvalid, match="not of batch"):
        ResumeToken.decode(token.encode(), **others)


@pytest.mark.parametrize(
    "others",
    [
        {"dataset_id": IDS["dataset_id"], "batch_id": "b-2"},
        {"dataset_id": IDS["dataset_id"].upper(), "batch_id": "b-1"},
        {"dataset_id": IDS["batch_id"], "batch_id": IDS["dataset_id"]},
        {"dataset_id": IDS["dataset_id"] + "b", "batch_id": "-1"},
        {"dataset_id": "", "batch_id": ""},
    ],
    ids=["other_batch", "other_dataset", "exchanged", "cut_elsewhere", "empty"],
)
def test_foreign_resume_token_is_refused_with_the_ids_that_were_asked(
    others: dict[str, str],
) -> None:
    with pytest.raises(TokenInvalid) as caught:
        ResumeToken.decode(resume_token().encode(), **others)
    assert caught.value.field == "resume_token"
    assert caught.value.metadata == {"field": "resume_token", **others}
    assert repr(others["batch_id"]) in str(caught.value)


@given(token=page_tokens, question=questions, other=questions)
def test_page_token_is_refused_for_any_other_question(
    token: PageToken, question: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    if repr(question) == repr(other):  # True is no 1 here
        return
    with pytest.raises(FieldInvalid) as caught:
        PageToken.decode(token.encode(SECRET, *question), SECRET, *other)
    assert caught.value.field == "page_token"
    assert "other ids or filters" in caught.value.rule


@pytest.mark.parametrize("text", ["", *NO_TOKENS.values()], ids=["empty", *NO_TOKENS])
def test_what_was_never_a_token_is_malformed(text: str) -> None:
    with pytest.raises(TokenInvalid, match="malformed") as resume:
        decode_resume(text)
    assert resume.value.metadata == {"field": "resume_token", **IDS}
    with pytest.raises(FieldInvalid, match="malformed") as page:
        decode_page(text)
    assert page.value.field == "page_token"


@given(text=st.text() | st.text(LETTERS, max_size=80) | st.from_regex(r"AQ[A-Za-z0-9_-]{48}"))
def test_text_that_chance_made_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid, match="malformed"):
        decode_resume(text)
    with pytest.raises(FieldInvalid, match="malformed"):
        decode_page(text)


@given_tokens
def test_every_change_of_a_single_letter_is_refused(text: str, decode: Any, refusal: Any) -> None:
    for position, letter in enumerate(text):
        for other in set(LETTERS + "+/= .\n\x00ä") - {letter}:
            with pytest.raises(refusal, match="malformed"):
                decode(text[:position] + other + text[position + 1 :])


@given(token=resume_tokens, data=st.data())
def test_change_of_a_single_letter_of_any_token_is_refused(
    token: ResumeToken, data: st.DataObject
) -> None:
    text = token.encode()
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(LETTERS).filter(lambda letter: letter != text[position]))
    with pytest.raises(TokenInvalid, match="malformed"):
        ResumeToken.decode(
            text[:position] + other + text[position + 1 :],
            dataset_id=token.dataset_id,
            batch_id=token.batch_id,
        )


@given_tokens
def test_every_letter_left_out_is_refused(text: str, decode: Any, refusal: Any) -> None:
    for position in range(len(text)):
        with pytest.raises(refusal, match="malformed"):
            decode(text[:position] + text[position + 1 :])


@given_tokens
def test_every_two_neighbours_exchanged_are_refused(text: str, decode: Any, refusal: Any) -> None:
    for position in range(len(text) - 1):
        first, second = text[position], text[position + 1]
        if first != second:
            with pytest.raises(refusal, match="malformed"):
                decode(text[:position] + second + first + text[position + 2 :])


@given_tokens
def test_token_that_was_cut_off_is_refused(text: str, decode: Any, refusal: Any) -> None:
    for length in range(len(text)):
        with pytest.raises(refusal, match="malformed"):
            decode(text[:length])


@given_tokens
@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "{}=", "{}==", "{0}{0}", "'{}'", "{}A"])
def test_token_with_anything_around_it_is_refused(
    text: str, decode: Any, refusal: Any, around: str
) -> None:
    with pytest.raises(refusal, match="malformed"):
        decode(around.format(text))


@given_tokens
@pytest.mark.parametrize("version", [0, 2, 255])
def test_token_of_another_version_is_refused(
    text: str, decode: Any, refusal: Any, version: int
) -> None:
    body = bytes([version]) + base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[1:-4]
    other = base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode()
    with pytest.raises(refusal, match="malformed"):
        decode(other.rstrip("="))


def test_page_token_is_no_resume_token_and_no_resume_token_a_page_token() -> None:
    page = PageToken(after="5", resume_token="").encode(SECRET, *IDS.values())
    with pytest.raises(TokenInvalid):
        decode_resume(page)
    with pytest.raises(FieldInvalid):
        decode_page(resume_token().encode())


def test_page_token_tells_nothing_to_who_does_not_know_the_secret() -> None:
    """Numbers that follow each other look no more alike than any others."""
    texts = [PageToken(after=str(number)).encode(*QUESTION) for number in range(1_000)]
    raw = [base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) for text in texts]
    assert len({len(text) for text in raw[100:]}) == 1
    for place in range(1, len(raw[-1]) - 4):  # between the version and the checksum
        assert len({text[place] for text in raw[100:]}) > 100
    assert texts[7] == PageToken(after="7").encode(*QUESTION)
    with pytest.raises(FieldInvalid, match="another store"):
        PageToken.decode(texts[7], bytes(32), *QUESTION[1:])


@pytest.mark.parametrize("report_of", [b"", b"\xff", b'["1",""]', bytes(16), bytes(40)])
def test_page_token_that_nobody_has_sealed_is_refused(report_of: bytes) -> None:
    with pytest.raises(FieldInvalid) as caught:
        decode_page(tokens._pack(report_of))
    assert caught.value.field == "page_token"
