"""Reasons and messages made from exceptions and texts."""

from __future__ import annotations

import re

import pytest

from stagecast.client.reporting.failures import message_of, reason_of, valid_message, valid_reason


class HTTPError503(Exception):
    pass


class WorkerLost(Exception):
    pass


class Fehlerhaft_Übel(Exception):  # noqa: N801 - as somebody may have it
    pass


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnicodeDecodeError("utf-8", b"", 0, 0, ""), "UNICODE_DECODE_ERROR"),
        (OSError(), "OS_ERROR"),
        (KeyError("a"), "KEY_ERROR"),
        (KeyboardInterrupt(), "KEYBOARD_INTERRUPT"),
        (HTTPError503(), "HTTP_ERROR503"),
        (WorkerLost(), "WORKER_LOST_ERROR"),
        (Fehlerhaft_Übel(), "FEHLERHAFT_BEL"),
        (type("X" * 200, (Exception,), {})(), "X" * 64),
        (type("_1st", (Exception,), {})(), "ERROR_1ST"),
        (type("É", (Exception,), {})(), "ERROR"),
    ],
)
def test_reason_is_made_from_the_class(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
    assert re.fullmatch("[A-Z][A-Z0-9_]{0,63}", reason)


def test_reason_of_a_text_is_valid() -> None:
    assert valid_reason("no text!") == "NO_TEXT"
    assert valid_reason("NO_TEXT") == "NO_TEXT"
    assert valid_reason("") == "ERROR"


def test_message_can_always_be_sent() -> None:
    assert message_of(ValueError("what\nfailed")) == "what\nfailed"
    assert message_of(ValueError()) == "ValueError"
    assert message_of(Silent()) == "Silent"
    assert valid_message("a\udcff") == r"a\udcff"
    assert len(valid_message("x" * 5_000)) == 4_096
