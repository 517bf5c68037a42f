"""Tokens are decoded unchanged, and any other text is refused."""

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
SHORT = "abc"  # arbitrary
SECRET = bytes(range(32))
QUERY = (SECRET, "d", "b", ("RUNNING",), None)

ids = st.fixed_dictionaries({"dataset_id": st.text(), "batch_id": st.text()})
int64 = st.integers(-(2**63), 2**63 - 1)
resume_tokens = st.builds(
    ResumeToken, dataset_id=st.text(), batch_id=st.text(), **dict.fromkeys(NUMBERS, int64)
)
queries = st.lists(st.none() | st.booleans() | st.integers() | st.text(), max_size=5).map(tuple)
page_tokens = st.builds(
    PageToken,
    after=st.text(),
    resume_token=st.just("") | resume_tokens.map(ResumeToken.encode),
)

INVALID_TOKENS = {
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
    """Return a token with small, large and negative numbers."""
    numbers: dict[str, Any] = dict(
        zip(NUMBERS, itertools.cycle((7, -(2**40), 2**62)), strict=False)
    )
    return ResumeToken(**IDS, **numbers)


def decode_resume(text: str) -> ResumeToken:
    return ResumeToken.decode(text, **IDS)


def decode_page(text: str) -> PageToken:
    return PageToken.decode(text, *QUERY)


TOKENS = {
    "resume": (resume_token().encode(), decode_resume, TokenInvalid),
    "page": (
        PageToken(after="5", resume_token=SHORT).encode(*QUERY),
        decode_page,
        FieldInvalid,
    ),
    "page_with_resume": (
        PageToken(after="5", resume_token=resume_token().encode()).encode(*QUERY),
        decode_page,
        FieldInvalid,
    ),
}
each_token = pytest.mark.parametrize(
    ("text", "decode", "refusal"), TOKENS.values(), ids=list(TOKENS)
)


@given(token=resume_tokens)
def test_resume_token_is_decoded_unchanged(token: ResumeToken) -> None:
    again = ResumeToken.decode(token.encode(), dataset_id=token.dataset_id, batch_id=token.batch_id)
    assert again == token


@given(token=page_tokens, query=queries)
def test_page_token_is_decoded_unchanged(token: PageToken, query: tuple[Any, ...]) -> None:
    assert PageToken.decode(token.encode(SECRET, *query), SECRET, *query) == token


@given(token=resume_tokens)
def test_token_needs_no_escape_in_a_url(token: ResumeToken) -> None:
    page = PageToken(after="1", resume_token=token.encode()).encode(SECRET)
    assert set(token.encode() + page) <= set(LETTERS)


@given(token=resume_tokens, others=ids)
def test_resume_token_is_refused_for_any_other_batch(
    token: ResumeToken, others: dict[str, str]
) -> None:
    if (token.dataset_id, token.batch_id) == (others["dataset_id"], others["batch_id"]):
        return
    with pytest.raises(TokenInvalid, match="does not belong to batch"):
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
def test_foreign_resume_token_error_has_the_requested_ids(
    others: dict[str, str],
) -> None:
    with pytest.raises(TokenInvalid) as caught:
        ResumeToken.decode(resume_token().encode(), **others)
    assert caught.value.field == "resume_token"
    assert caught.value.metadata == {"field": "resume_token", **others}
    assert repr(others["batch_id"]) in str(caught.value)


@given(token=page_tokens, query=queries, other=queries)
def test_page_token_is_refused_for_any_other_query(
    token: PageToken, query: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    if repr(query) == repr(other):  # tells True from 1
        return
    with pytest.raises(FieldInvalid) as caught:
        PageToken.decode(token.encode(SECRET, *query), SECRET, *other)
    assert caught.value.field == "page_token"
    assert "other ids or filters" in caught.value.rule


@pytest.mark.parametrize("text", ["", *INVALID_TOKENS.values()], ids=["empty", *INVALID_TOKENS])
def test_text_that_is_not_a_token_is_malformed(text: str) -> None:
    with pytest.raises(TokenInvalid, match="malformed") as resume:
        decode_resume(text)
    assert resume.value.metadata == {"field": "resume_token", **IDS}
    with pytest.raises(FieldInvalid, match="malformed") as page:
        decode_page(text)
    assert page.value.field == "page_token"


@given(text=st.text() | st.text(LETTERS, max_size=80) | st.from_regex(r"AQ[A-Za-z0-9_-]{48}"))
def test_random_text_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid, match="malformed"):
        decode_resume(text)
    with pytest.raises(FieldInvalid, match="malformed"):
        decode_page(text)


@each_token
def test_every_changed_letter_is_refused(text: str, decode: Any, refusal: Any) -> None:
    for position, letter in enumerate(text):
        for other in set(LETTERS + "+/= .\n\x00ä") - {letter}:
            with pytest.raises(refusal, match="malformed"):
                decode(text[:position] + other + text[position + 1 :])


@given(token=resume_tokens, data=st.data())
def test_changed_letter_of_any_token_is_refused(token: ResumeToken, data: st.DataObject) -> None:
    text = token.encode()
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(LETTERS).filter(lambda letter: letter != text[position]))
    with pytest.raises(TokenInvalid, match="malformed"):
        ResumeToken.decode(
            text[:position] + other + text[position + 1 :],
            dataset_id=token.dataset_id,
            batch_id=token.batch_id,
        )


@each_token
def test_omitted_letter_is_refused(text: str, decode: Any, refusal: Any) -> None:
    for position in range(len(text)):
        with pytest.raises(refusal, match="malformed"):
            decode(text[:position] + text[position + 1 :])


@each_token
def test_swapped_adjacent_letters_are_refused(text: str, decode: Any, refusal: Any) -> None:
    for position in range(len(text) - 1):
        first, second = text[position], text[position + 1]
        if first != second:
            with pytest.raises(refusal, match="malformed"):
                decode(text[:position] + second + first + text[position + 2 :])


@each_token
def test_truncated_token_is_refused(text: str, decode: Any, refusal: Any) -> None:
    for length in range(len(text)):
        with pytest.raises(refusal, match="malformed"):
            decode(text[:length])


@each_token
@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "{}=", "{}==", "{0}{0}", "'{}'", "{}A"])
def test_token_with_text_around_it_is_refused(
    text: str, decode: Any, refusal: Any, around: str
) -> None:
    with pytest.raises(refusal, match="malformed"):
        decode(around.format(text))


@each_token
@pytest.mark.parametrize("version", [0, 2, 255])
def test_token_of_another_version_is_refused(
    text: str, decode: Any, refusal: Any, version: int
) -> None:
    body = bytes([version]) + base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[1:-4]
    other = base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode()
    with pytest.raises(refusal, match="malformed"):
        decode(other.rstrip("="))


def test_page_and_resume_tokens_are_not_interchangeable() -> None:
    page = PageToken(after="5", resume_token="").encode(SECRET, *IDS.values())
    with pytest.raises(TokenInvalid):
        decode_resume(page)
    with pytest.raises(FieldInvalid):
        decode_page(resume_token().encode())


def test_page_token_hides_its_payload_without_the_secret() -> None:
    """Tokens of consecutive numbers look unrelated."""
    texts = [PageToken(after=str(number)).encode(*QUERY) for number in range(1_000)]
    raw = [base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) for text in texts]
    assert len({len(text) for text in raw[100:]}) == 1
    for index in range(1, len(raw[-1]) - 4):  # between the version and the checksum
        assert len({text[index] for text in raw[100:]}) > 100
    assert texts[7] == PageToken(after="7").encode(*QUERY)
    with pytest.raises(FieldInvalid, match="another store"):
        PageToken.decode(texts[7], bytes(32), *QUERY[1:])


@pytest.mark.parametrize("payload", [b"", b"\xff", b'["1",""]', bytes(16), bytes(40)])
def test_unencrypted_page_token_is_refused(payload: bytes) -> None:
    with pytest.raises(FieldInvalid) as caught:
        decode_page(tokens._pack(payload))
    assert caught.value.field == "page_token"
