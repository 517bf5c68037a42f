"""Validation of single fields, at their limits and beyond."""

from __future__ import annotations

import string
import uuid

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.errors import FieldInvalid
from stagecast.wire import checks

UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
UUID_OF_A_TIME = "c232ab00-9414-11ec-b3c8-9f6bdeced846"  # version 1
_YEAR_S = 365 * 86_400

INVALID_UUIDS = {
    "empty": "",
    "no_dashes": UUID.replace("-", ""),
    "braces": f"{{{UUID}}}",
    "urn": f"urn:uuid:{UUID}",
    "too_short": UUID[:-1],
    "too_long": UUID + "0",
    "dashes_elsewhere": "7c9e667-97425-40de-944b-e07fc1f90ae7",
    "no_hex_digit": "g" + UUID[1:],
    "blank_before": " " + UUID,
    "newline_behind": UUID + "\n",
    "other_digits": "\u0667" + UUID[1:],
    "wide_digits": "\uff17" + UUID[1:],
    "nul": UUID[:-1] + "\x00",
    "text": "my-dataset",
    "path": "../../etc/passwd",
    "sql": "' OR 1=1 --",
}

INVALID_BATCH_IDS = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "too_long": "b" * 129,
    "slash": "a/b",
    "backslash": "a\\b",
    "blank": "a b",
    "only_blank": " ",
    "newline_behind": "a\n",
    "percent": "%2e",
    "colon": "a:b",
    "umlaut": "ü",
    "other_digits": "١٢٣",
    "nul": "a\x00",
    "plus": "a+b",
    "sql": "a';--",
}

UNPRINTABLE = {
    "newline": "a\nb",
    "newline_behind": "a\n",
    "carriage_return": "a\rb",
    "tab": "a\tb",
    "nul": "a\x00b",
    "escape": "\x1b[31m",
    "delete": "a\x7f",
    "next_line": "a\x85b",
    "line_separator": "a\u2028b",
    "right_to_left_override": "a\u202eb",
    "lone_surrogate": "a\ud800",
} | {
    f"turn_{code:x}": f"a{chr(code)}b" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}

PRINTABLE = {
    "sql": "'; DROP TABLE documents; --",
    "path": "../../etc/passwd",
    "windows_path": "C:\\docs\\a b.pdf",
    "url": "https://example.com/a%2eb?c=d&e=ü#f",
    "json": '{"a": null}',
    "blanks_around": " a ",
    "only_blank": " ",
    "emoji": "🗎📄",
    "composed": "é",
    "decomposed": "e\u0301",
    "arabic": "ملف.pdf",
    "chinese": "文书.pdf",
    "spaces_of_file_names": "Screenshot 3.04\u202fPM\u00a0\u3000.png",
    "joined_emoji": "👩\u200d💻",
    "newer_than_this_python": "\U0001fae9",
    "private_use": "a\ue000",
    "percent": "%s%d{0}",
    "wildcards": "%_*?",
}


def _parts(value: Duration | Timestamp) -> str:
    return f"{value.seconds}s,{value.nanos}ns"


def _refused(field: str, rule: str) -> pytest.RaisesExc[FieldInvalid]:
    return pytest.RaisesExc(
        FieldInvalid, check=lambda error: error.field == field and rule in error.rule
    )


@pytest.mark.parametrize("value", INVALID_UUIDS.values(), ids=INVALID_UUIDS.keys())
def test_invalid_dataset_id_is_refused(value: str) -> None:
    with _refused("dataset_id", "must be a UUID"):
        checks.dataset_id(value)


@pytest.mark.parametrize(
    "value", [UUID, str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1)), UUID_OF_A_TIME]
)
def test_any_uuid_is_a_dataset_id_in_lower_case(value: str) -> None:
    assert checks.dataset_id(value) == value
    assert checks.dataset_id(value.upper()) == value
    assert checks.dataset_id(value.title()) == value


@pytest.mark.parametrize("value", INVALID_BATCH_IDS.values(), ids=INVALID_BATCH_IDS.keys())
def test_invalid_batch_id_is_refused(value: str) -> None:
    with _refused("batch_id", "1 to 128 characters of A-Z a-z 0-9 . _ ~ -"):
        checks.batch_id(value)


@pytest.mark.parametrize(
    "value", ["0", "...", "-", "~", "_", ".a", "b" * 128, string.ascii_letters + string.digits]
)
def test_valid_batch_id_is_unchanged(value: str) -> None:
    assert checks.batch_id(value) == value


@pytest.mark.parametrize("value", UNPRINTABLE.values(), ids=UNPRINTABLE.keys())
def test_unprintable_text_is_refused(value: str) -> None:
    with _refused("f", "must have printable characters only"):
        checks.text("f", value, min_length=0, max_length=256)


@pytest.mark.parametrize("value", PRINTABLE.values(), ids=PRINTABLE.keys())
def test_printable_text_is_unchanged(value: str) -> None:
    assert checks.text("f", value, min_length=1, max_length=256) == value


def test_text_is_measured_in_characters_not_bytes() -> None:
    for character in "x文🗎":
        assert checks.text("f", character * 256, min_length=1, max_length=256) == character * 256
        with _refused("f", "must have 1 to 256 characters, has 257"):
            checks.text("f", character * 257, min_length=1, max_length=256)
    with _refused("f", "must have 1 to 256 characters, has 0"):
        checks.text("f", "", min_length=1, max_length=256)
    assert checks.text("f", "", min_length=0, max_length=256) == ""


def test_labels_at_their_limits_are_unchanged() -> None:
    labels = {f"{number:02}" + "🗎" * 62: "文" * 256 for number in range(32)}
    labels["00" + "🗎" * 62] = ""
    assert checks.labels("labels", labels) == labels


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        ({str(number): "" for number in range(33)}, "at most 32 pairs, has 33"),
        ({"": "v"}, "1 to 64 characters, has 0"),
        ({"k" * 65: "v"}, "1 to 64 characters, has 65"),
        ({"k\n": "v"}, "printable"),
        ({"k": "v" * 257}, "0 to 256 characters, has 257"),
        ({"k": "v\x00"}, "printable"),
    ],
    ids=["too_many", "empty_key", "long_key", "key_unprintable", "long_value", "unprintable"],
)
def test_invalid_labels_are_refused(labels: dict[str, str], rule: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        checks.labels("documents[3].labels", labels)
    assert caught.value.field.startswith("documents[3].labels")
    assert rule in caught.value.rule


@pytest.mark.parametrize("number", [-1, 0, 4, 100])
def test_count_beyond_its_limits_is_refused(number: int) -> None:
    with _refused("reports", f"must have 1 to 3 entries, has {number}"):
        checks.count("reports", number, minimum=1, maximum=3)
    checks.count("reports", 1, minimum=1, maximum=3)
    checks.count("reports", 3, minimum=1, maximum=3)


@pytest.mark.parametrize("value", ["A", "DECODE_ERROR", "A_", "E2", "A" * 64, "WORKER_LOST"])
def test_valid_reason_is_unchanged(value: str) -> None:
    assert checks.reason("f", value) == value


@pytest.mark.parametrize(
    "value", ["", "a", "Decode", "_A", "1A", "A B", "A-B", "A.B", "A\n", "Ä", "A" * 65, "\u0410"]
)
def test_invalid_reason_is_refused(value: str) -> None:
    with _refused("f", "must be 1 to 64 characters of A-Z 0-9 _, beginning with a letter"):
        checks.reason("f", value)


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (Duration(), 0),
        (Duration(seconds=1), 1_000_000),
        (Duration(seconds=1, nanos=1), 1_000_000),
        (Duration(seconds=2, nanos=999_999_999), 2_999_999),
        (Duration(seconds=_YEAR_S), _YEAR_S * 1_000_000),
    ],
)
def test_span_is_in_microseconds(value: Duration, microseconds: int) -> None:
    assert checks.span_us("f", value, min_s=1, max_s=_YEAR_S, zero=True) == microseconds


@pytest.mark.parametrize(
    "value",
    [
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(nanos=1),
        Duration(nanos=999_999_999),
        Duration(seconds=_YEAR_S, nanos=1_000),
        Duration(seconds=_YEAR_S + 1),
        Duration(seconds=2**63 - 1),
        Duration(seconds=-(2**63)),
    ],
    ids=_parts,
)
def test_span_beyond_its_limits_is_refused(value: Duration) -> None:
    with _refused("f", "must be 0, or 1 s to 365 days"):
        checks.span_us("f", value, min_s=1, max_s=_YEAR_S, zero=True)


@pytest.mark.parametrize(
    "value",
    [
        Duration(seconds=10, nanos=-1),
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
        Duration(seconds=10, nanos=10**9),
        Duration(seconds=10, nanos=2**31 - 1),
        Duration(seconds=10, nanos=-(2**31)),
    ],
    ids=_parts,
)
def test_invalid_duration_is_refused(value: Duration) -> None:
    """Protobuf requires the same sign for both parts, and nanos below a second."""
    with pytest.raises(FieldInvalid):
        checks.span_us("f", value, min_s=1, max_s=_YEAR_S, zero=True)


def test_span_of_zero_is_accepted_only_with_zero() -> None:
    with _refused("f", "must be 1 s to 5 min"):
        checks.span_us("f", Duration(), min_s=1, max_s=300, zero=False)
    assert checks.span_us("f", Duration(seconds=300), min_s=1, max_s=300, zero=False)


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (Timestamp(), 0),
        (Timestamp(seconds=1, nanos=1_999), 1_000_001),
        (Timestamp(seconds=-1, nanos=999_999_000), -1),
        (Timestamp(seconds=-62_135_596_800), -62_135_596_800_000_000),
        (Timestamp(seconds=253_402_300_799, nanos=999_999_999), 253_402_300_799_999_999),
    ],
)
def test_moment_is_in_microseconds_since_the_epoch(value: Timestamp, microseconds: int) -> None:
    assert checks.moment_us("f", value) == microseconds


@pytest.mark.parametrize(
    "value",
    [
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=253_402_300_800),
        Timestamp(seconds=2**63 - 1),
        Timestamp(seconds=-(2**63)),
        Timestamp(nanos=-1),
        Timestamp(nanos=10**9),
    ],
    ids=_parts,
)
def test_invalid_moment_is_refused(value: Timestamp) -> None:
    with _refused("f", "must be a time in the years 1 to 9999"):
        checks.moment_us("f", value)
