"""Whoever sees some datasets only is told of the others what is told of none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from stagecast.store import Reading, Writing
from stagecast.store.sight import _Seen, _SeenWriting

# Parameters by which a method of a store is told of a dataset that nobody was shown yet.
NAMES_A_DATASET = {"dataset_id", "dataset_ids", "names"}


def methods(protocol: type) -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for name, member in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("protocol", "seen"), [(Reading, _Seen), (Writing, _SeenWriting)])
def test_every_method_that_names_a_dataset_looks_whether_it_is_in_sight(
    protocol: type, seen: type
) -> None:
    naming = {
        name
        for name, method in methods(protocol).items()
        if NAMES_A_DATASET & inspect.signature(method).parameters.keys()
    }
    assert naming
    assert naming <= methods(seen).keys()
