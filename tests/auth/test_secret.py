"""The format of keys: recognition, prefix, checksum."""

from __future__ import annotations

import hashlib
import math
import re

import pytest

from stagecast.auth.secret import digest_of, make_key, prefix_of
from tests.documents import DOCS

DOCUMENTED = r"stagecast_[0-9a-z]{8}_[0-9A-Za-z]{38}"


def test_key_matches_the_documented_pattern() -> None:
    assert f"`{DOCUMENTED}`" in (DOCS / "operations.md").read_text()
    key = make_key()
    assert re.fullmatch(DOCUMENTED, key)
    assert prefix_of(key) == key[:18]


def test_key_has_enough_random_bits() -> None:
    assert 32 * math.log2(62) > 128
    keys = [make_key() for _ in range(1_000)]
    assert len({prefix_of(key) for key in keys}) == 1_000
    # Each position of the secret may have any character, independent of the others.
    secrets = [key[len("stagecast_01234567_") : -6] for key in keys]
    assert {len(secret) for secret in secrets} == {32}
    assert min(len(set(characters)) for characters in zip(*secrets, strict=True)) > 50
    assert len({half for key in secrets for half in (key[:16], key[16:])}) == 2_000


def test_key_with_any_changed_character_is_invalid() -> None:
    key = make_key()
    for index in range(len(key)):
        other = "0" if key[index] != "0" else "1"
        assert prefix_of(key[:index] + other + key[index + 1 :]) is None, index


@pytest.mark.parametrize(
    "text",
    ["", "stagecast_", "Bearer", "\udcff", "ä" * 57, "stagecast_" + "0" * 8 + "_" + "0" * 38],
)
def test_text_that_is_not_a_key_has_no_prefix(text: str) -> None:
    assert prefix_of(text) is None
    assert len(digest_of(text)) == 32


def test_digest_is_the_sha_256() -> None:
    key = make_key()
    assert digest_of(key) == hashlib.sha256(key.encode()).digest()
