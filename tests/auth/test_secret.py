"""A key is told from what is none, and shows its prefix only."""

from __future__ import annotations

import hashlib
import math
import re

import pytest

from stagecast.auth.secret import digest_of, make_key, prefix_of
from tests.documents import DOCS

DOCUMENTED = r"stagecast_[0-9a-z]{8}_[0-9A-Za-z]{38}"


def test_key_looks_as_scanners_are_told() -> None:
    assert f"`{DOCUMENTED}`" in (DOCS / "operations.md").read_text()
    key = make_key()
    assert re.fullmatch(DOCUMENTED, key)
    assert prefix_of(key) == key[:18]


def test_key_has_bits_enough_that_nobody_guesses_it() -> None:
    assert 32 * math.log2(62) > 128
    keys = [make_key() for _ in range(1_000)]
    assert len({prefix_of(key) for key in keys}) == 1_000
    # Each place of the secret takes what letters there are, whatever stands in the others.
    secrets = [key[len("stagecast_01234567_") : -6] for key in keys]
    assert {len(secret) for secret in secrets} == {32}
    assert min(len(set(place)) for place in zip(*secrets, strict=True)) > 50
    assert len({half for key in secrets for half in (key[:16], key[16:])}) == 2_000


def test_any_change_of_one_character_is_no_key() -> None:
    key = make_key()
    for place in range(len(key)):
        other = "0" if key[place] != "0" else "1"
        assert prefix_of(key[:place] + other + key[place + 1 :]) is None, place


@pytest.mark.parametrize(
    "text",
    ["", "stagecast_", "Bearer", "\udcff", "ä" * 57, "stagecast_" + "0" * 8 + "_" + "0" * 38],
)
def test_what_was_never_a_key_has_no_prefix(text: str) -> None:
    assert prefix_of(text) is None
    assert len(digest_of(text)) == 32


def test_digest_is_the_sha_256() -> None:
    key = make_key()
    assert digest_of(key) == hashlib.sha256(key.encode()).digest()
