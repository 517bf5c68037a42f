"""UUIDs, and error messages as observed from pydantic 2.12.5."""

from __future__ import annotations

import pytest

from stagecast.rest.uuids import InvalidUuid, parse_uuid

FOREIGN = (
    "invalid character: expected an optional prefix of `urn:uuid:` followed by [0-9a-fA-F-], found "
)
LENGTH = "invalid length: expected length 32 for simple format, found "
COUNT = "invalid group count: expected 5, found "
GROUP = "invalid group length in group "

OBSERVED = [
    ("", LENGTH + "0"),
    ("x", FOREIGN + "`x` at 1"),
    ("bad", LENGTH + "3"),
    ("a", LENGTH + "1"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b1", GROUP + "4: expected 12, found 11"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b111", GROUP + "4: expected 12, found 13"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11-", COUNT + "6"),
    ("6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b1", LENGTH + "31"),
    ("6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b110", LENGTH + "33"),
    ("6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b1g", FOREIGN + "`g` at 32"),
    ("6a1c0d1e-8a3b-4f0e-9d3c3f1f6f0c2b11", COUNT + "4"),
    ("6a1c0d1-e8a3b-4f0e-9d3c-3f1f6f0c2b11", GROUP + "0: expected 8, found 7"),
    ("6a1c0d1e-8a3-b4f0e-9d3c-3f1f6f0c2b11", GROUP + "1: expected 4, found 3"),
    ("6a1c0d1e-8a3b-4f0-e9d3c-3f1f6f0c2b11", GROUP + "2: expected 4, found 3"),
    ("6a1c0d1e-8a3b-4f0e-9d3-c3f1f6f0c2b11", GROUP + "3: expected 4, found 3"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b1-", COUNT + "6"),
    ("------------------------------------", COUNT + "37"),
    ("----", GROUP + "0: expected 8, found 0"),
    ("-", COUNT + "2"),
    ("{", FOREIGN + "`{` at 1"),
    ("}", FOREIGN + "`}` at 1"),
    ("{}", COUNT + "1"),
    ("{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11", FOREIGN + "`{` at 1"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11}", FOREIGN + "`}` at 37"),
    ("{6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b11}", COUNT + "1"),
    ("{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11a}", GROUP + "4: expected 12, found 15"),
    ("{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b1}", GROUP + "4: expected 12, found 13"),
    ("{{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11}}", FOREIGN + "`{` at 2"),
    ("urn:uuid:", COUNT + "1"),
    ("urn:uuid:6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b11", COUNT + "1"),
    ("URN:UUID:6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11", FOREIGN + "`U` at 1"),
    ("urn:uuid:6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b111", GROUP + "4: expected 12, found 22"),
    ("urn:uuid:6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b1", GROUP + "4: expected 12, found 20"),
    ("urn:uuid:{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11}", FOREIGN + "`{` at 10"),
    ("urn:uuid:x", FOREIGN + "`x` at 10"),
    ("{urn:uuid:6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11}", FOREIGN + "`u` at 2"),
    ("é", FOREIGN + "`é` at 1"),
    ("ünïcode", FOREIGN + "`ü` at 1"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2bé", FOREIGN + "`é` at 35"),
    ("日本語", FOREIGN + "`日` at 1"),
    ("6a1c€0d1e", FOREIGN + "`€` at 5"),
    ("😀😀😀😀😀😀😀😀", FOREIGN + "`😀` at 1"),
    ("😀😀😀😀😀😀😀😀😀", FOREIGN + "`😀` at 1"),
    (" 6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11", FOREIGN + "` ` at 1"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11 ", FOREIGN + "` ` at 37"),
    ("\x00", FOREIGN + "`\x00` at 1"),
    ("\n6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11", FOREIGN + "`\n` at 1"),
    ("0000000000000000000000000000000\u0661", FOREIGN + "`\u0661` at 32"),
    ("%", FOREIGN + "`%` at 1"),
    ("+", FOREIGN + "`+` at 1"),
    ("null", FOREIGN + "`n` at 1"),
    ("None", FOREIGN + "`N` at 1"),
    ("undefined", FOREIGN + "`u` at 1"),
    ("0x6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b", FOREIGN + "`x` at 2"),
    ("1", LENGTH + "1"),
    ("6a1c0d1e_8a3b_4f0e_9d3c_3f1f6f0c2b11", FOREIGN + "`_` at 9"),
    (
        "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11,6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11",
        FOREIGN + "`,` at 37",
    ),
    ("[6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11]", FOREIGN + "`[` at 1"),
    ("\ufffd", FOREIGN + "`\ufffd` at 1"),
    ("6a1c0d1e--8a3b-4f0e-9d3c3f1f6f0c2b11", GROUP + "1: expected 4, found 0"),
    ("gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg", FOREIGN + "`g` at 1"),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", LENGTH + "64"),
    ("a-b-c-d-e", GROUP + "0: expected 8, found 1"),
    ("a-b-c-d-e-f", COUNT + "6"),
    ("-----", COUNT + "6"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-", GROUP + "4: expected 12, found 0"),
    ("{6a1c0d1e-8a3b-4f0e-9d3c-}", GROUP + "4: expected 12, found 2"),
    ("urn:uuid:6a1c0d1e-8a3b-4f0e-9d3c-", GROUP + "4: expected 12, found 9"),
    ("{----}", GROUP + "0: expected 8, found 0"),
    ("{a}", COUNT + "1"),
    ("{é}", FOREIGN + "`é` at 2"),
    ("urn:uuid:é", FOREIGN + "`é` at 10"),
    ("\u0100", FOREIGN + "`\u0100` at 1"),
    ("{6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b11", FOREIGN + "`{` at 1"),
    ("\u0130", FOREIGN + "`\u0130` at 1"),
    ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", LENGTH + "31"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b116a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11", COUNT + "9"),
    ("6a1c0d1e8-8a3b-4f0e-9d3c-3f1f6f0c2b1", GROUP + "0: expected 8, found 9"),
    ("6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2bg1", FOREIGN + "`g` at 35"),
    ("{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2bg1}", FOREIGN + "`g` at 35"),
    ("urn:uuid:6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2bg1", FOREIGN + "`g` at 35"),
    ("{6a1c0d1e-8a3b-4f0e-9d3c3f1f6f0c2b1-a}", GROUP + "3: expected 4, found 15"),
    ("urn:uuid:6a1c0d1-e8a3b-4f0e-9d3c-3f1f6f0c2b11", GROUP + "0: expected 8, found 7"),
]


@pytest.mark.parametrize(("text", "message"), OBSERVED)
def test_invalid_uuid_has_the_message_of_pydantic(text: str, message: str) -> None:
    with pytest.raises(InvalidUuid) as refusal:
        parse_uuid(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11",
        "6A1C0D1E-8A3B-4F0E-9D3C-3F1F6F0C2B11",
        "6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b11",
        "6A1C0D1E8A3B4F0E9D3C3F1F6F0C2B11",
        "urn:uuid:6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11",
        "urn:uuid:6A1C0D1E-8A3B-4F0E-9D3C-3F1F6F0C2B11",
        "{6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11}",
    ],
)
def test_every_form_is_converted_to_the_canonical_one(text: str) -> None:
    assert parse_uuid(text) == "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"


@pytest.mark.parametrize(
    "text", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
)
def test_nil_and_max_are_uuids(text: str) -> None:
    assert parse_uuid(text) == text
