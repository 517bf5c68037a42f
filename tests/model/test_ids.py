"""Formats of ids, given by callers or generated."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.model import (
    BATCH_ID,
    canonical_uuid,
    find_similar,
    make_batch_id,
    make_document_id,
    other_forms,
    with_other_forms,
)

UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
MOMENT = datetime(2026, 11, 22, 9, 30, 15, 482_913, tzinfo=UTC)
MOMENT_US = 1_795_339_815_482_913

moments = st.integers(0, 4_102_444_800_000_000 - 1)  # to the end of the year 2099


def test_batch_id_is_the_time_in_utc_and_six_digits() -> None:
    assert round(MOMENT.timestamp() * 1_000_000) == MOMENT_US
    assert re.fullmatch(r"20261122093015[0-9]{6}", make_batch_id(MOMENT_US))


@pytest.mark.parametrize("timezone", ["Pacific/Auckland", "America/St_Johns"])
def test_batch_id_does_not_depend_on_the_time_zone(
    timezone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", timezone)
    assert make_batch_id(MOMENT_US).startswith("20261122093015")


def test_batch_id_does_not_round_up_to_the_next_second() -> None:
    second = MOMENT_US - MOMENT_US % 1_000_000
    assert make_batch_id(second).startswith("20261122093015")
    assert make_batch_id(second + 999_999).startswith("20261122093015")
    assert make_batch_id(second + 1_000_000).startswith("20261122093016")


@given(now=moments)
def test_batch_id_is_20_digits_and_a_valid_id(now: int) -> None:
    made = make_batch_id(now)
    assert re.fullmatch(r"[0-9]{20}", made)
    assert BATCH_ID.fullmatch(made)


@given(earlier=moments, later=moments)
def test_batch_ids_sort_by_the_second(earlier: int, later: int) -> None:
    if earlier // 1_000_000 < later // 1_000_000:
        assert make_batch_id(earlier) < make_batch_id(later)


def test_batch_ids_of_the_same_time_differ() -> None:
    made = {make_batch_id(MOMENT_US) for _ in range(100)}
    assert len(made) > 90, "a few may repeat by chance"


def test_document_id_is_a_random_uuid() -> None:
    made = {make_document_id() for _ in range(100)}
    assert len(made) == 100
    assert all(canonical_uuid(each) == each for each in made)
    assert {uuid.UUID(each).version for each in made} == {4}


@given(number=st.uuids())
def test_canonical_uuid_is_in_lower_case(number: uuid.UUID) -> None:
    text = str(number)
    assert canonical_uuid(text) == text
    assert canonical_uuid(text.upper()) == text
    assert canonical_uuid(text[:18].upper() + text[18:]) == text


@pytest.mark.parametrize(
    "text",
    ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    ids=["nil", "max"],
)
def test_uuid_without_version_is_valid(text: str) -> None:
    assert canonical_uuid(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID.replace("-", ""),
        f"{{{UUID}}}",
        f"urn:uuid:{UUID}",
        UUID[:-1],
        UUID + "0",
        UUID + "\n",
        " " + UUID,
        "7c9e667-97425-40de-944b-e07fc1f90ae7",
        UUID.replace("-", "_"),
        UUID.replace("-", "\N{HYPHEN}"),
        "g" + UUID[1:],
        "\N{FULLWIDTH DIGIT SEVEN}" + UUID[1:],
        "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}" + UUID[1:],
        "\x00" * 36,
    ],
    ids=[
        *("empty", "no_dashes", "braces", "urn", "too_short", "too_long", "newline", "blank"),
        *("dashes_elsewhere", "underscores", "other_hyphens", "no_hex_digit", "wide_digit"),
        *("grows_in_lower_case", "nul"),
    ],
)
def test_other_text_is_an_invalid_uuid(text: str) -> None:
    assert canonical_uuid(text) is None


def test_non_ascii_character_is_not_a_uuid_digit() -> None:
    foreign = (chr(code) for code in range(128, 0x20000))  # includes all with upper and lower case
    assert [each for each in foreign if canonical_uuid(each + UUID[1:]) is not None] == []


# Ids that look the same, and the forms of each.
NFC, NFD, PLAIN = "caf\u00e9", "cafe\u0301", "cafe"


def test_forms_of_an_id_differ_from_it_and_are_named() -> None:
    assert other_forms(NFC) == {NFD: "NFD"}
    assert other_forms(NFD) == {NFC: "NFC"}
    assert other_forms("\u212b") == {"\u00c5": "NFC", "A\u030a": "NFD"}  # the angstrom sign
    assert other_forms(PLAIN) == other_forms("\u6f22\u5b57") == {}


def test_ids_are_joined_by_their_other_forms() -> None:
    assert with_other_forms([NFC, PLAIN, PLAIN]) == {NFC, NFD, PLAIN}
    assert with_other_forms([]) == set()


def test_similar_id_is_one_that_exists() -> None:
    assert find_similar(NFC, {NFD, PLAIN}) == (NFD, "NFD")
    assert find_similar(NFD, {NFC: 1}) == (NFC, "NFC")
    assert find_similar(NFC, {NFC, PLAIN}) is None
    assert find_similar(PLAIN, {NFC}) is None
