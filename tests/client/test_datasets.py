"""A dataset may be named: what is no UUID stands for one that is made from the name."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stagecast
from stagecast.client.datasets import dataset_id, with_name
from tests.client.faces import Events, Face

UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
TWO_LINES = "a\nb"
LETTERS = "1db36f68-d572-5d8a-9b30-f9aa5800379b"


def test_name_stands_for_the_same_uuid_in_every_release() -> None:
    assert str(stagecast.DATASET_NAMESPACE) == "e74af9ef-ee68-53e6-b29d-95d92e6337fa"
    assert dataset_id("letters") == LETTERS
    assert dataset_id("Letters") != LETTERS


@pytest.mark.parametrize(
    "same",
    [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", uuid.UUID(UUID)],
)
def test_uuid_is_one_however_it_is_written(same: Any) -> None:
    assert dataset_id(same) == UUID


def test_names_that_look_the_same_are_the_same() -> None:
    assert dataset_id("caf\u00e9") == dataset_id("cafe\u0301")
    assert dataset_id("caf\u00e9") == str(uuid.uuid5(stagecast.DATASET_NAMESPACE, "caf\u00e9"))


@pytest.mark.parametrize(
    "mistyped",
    [
        UUID[:-1],
        UUID[:-2],
        UUID + "0",
        UUID.replace("-", "")[:-1],
        UUID.replace("7c9e", "7cge"),
        UUID.replace("0", "O", 1),
        UUID.replace("7c", "z"),
        f"'{UUID}'",
        UUID.replace("7c9e", "\uff17c9e"),
        f" {UUID}",
        f"{UUID}\n",
        f"{UUID}.",
        UUID.replace("-", "\N{EN DASH}", 2),
    ],
)
def test_mistyped_uuid_is_refused_and_not_taken_as_a_name(mistyped: str) -> None:
    with pytest.raises(ValueError, match="mistyped UUID") as refusal:
        dataset_id(mistyped)
    assert repr(mistyped) in str(refusal.value)


@given(
    st.uuids(),
    st.lists(st.tuples(st.integers(0, 31), st.characters(codec="utf-8")), max_size=2),
)
def test_uuid_with_two_wrong_digits_never_becomes_a_name(
    known: uuid.UUID, wrong: list[tuple[int, str]]
) -> None:
    digits = list(known.hex)
    for position, character in wrong:
        digits[position] = character
    text = "".join(digits)
    try:
        known = uuid.UUID(dataset_id(text))
    except ValueError:
        return
    assert known.hex == text.lower()


@pytest.mark.parametrize(
    "name",
    [
        "handbook",
        f"kb-{UUID}",
        "customer-docs-from-2024-spreadsheets",
        "2024-01-01-12-30",
        "20261122093015482913",
        "507f1f77bcf86cd799439011",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "1_" * 16,
        "\u0661" * 32,
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_name_that_only_resembles_a_uuid_is_a_name(name: str) -> None:
    assert dataset_id(name) == str(uuid.uuid5(stagecast.DATASET_NAMESPACE, name))


@pytest.mark.parametrize("dataset", [None, 7, b"handbook", "", "\udcff"])
def test_what_is_neither_uuid_nor_name_is_refused(dataset: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^invalid dataset "):
        dataset_id(dataset)


def test_message_has_the_name_before_the_id_that_it_stands_for() -> None:
    message = f"no dataset '{LETTERS}'"
    assert with_name(message, "letters") == f"no dataset 'letters' ({LETTERS})"
    for other in (None, "others", LETTERS, uuid.UUID(LETTERS)):
        assert with_name(message, other) == message
    assert with_name(message, "let\x1bters") == message
    odd = f"no dataset '{dataset_id(TWO_LINES)}'"
    assert with_name(odd, TWO_LINES).startswith("no dataset 'a\\nb' (")


PARSING = stagecast.DocumentReport(document_id="a", stage=stagecast.Stage.PARSING)
NAMED = f"no batch 'first' in dataset 'letters' ({LETTERS})"


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("get_batch", ("first",)),
        ("add_documents", ("first", ["a"])),
        ("report", ("first", [PARSING])),
        ("list_documents", ("first",)),
        ("history", ("first",)),
        ("wait", ("first",)),
        ("stop", ("first",)),
        ("delete_batch", ("first",)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_error_has_the_name_and_the_id_of_the_dataset(
    face: Face, method: str, args: tuple[Any, ...]
) -> None:
    with pytest.raises(stagecast.BatchNotFound) as caught:
        await face.call(method, "letters", *args)
    assert str(caught.value) == NAMED
    assert caught.value.dataset_id == LETTERS
    with pytest.raises(stagecast.BatchNotFound) as caught:
        await face.call(method, LETTERS, *args)
    assert str(caught.value) == f"no batch 'first' in dataset '{LETTERS}'"


async def test_error_of_a_watch_has_the_name_and_the_id(face: Face) -> None:
    with pytest.raises(stagecast.BatchNotFound) as caught:
        await anext(Events(face, "letters", "first"))
    assert str(caught.value) == NAMED


async def test_list_of_a_dataset_that_is_not_there_has_its_name(face: Face) -> None:
    with pytest.raises(stagecast.DatasetNotFound) as caught:
        await face.call("list_batches", "letters")
    assert str(caught.value) == f"no dataset 'letters' ({LETTERS})"
