"""Failures of documents, made from exceptions."""

from __future__ import annotations

import re

_RESERVED = "WORKER_LOST"  # by stagecast itself
_MAX_REASON = 64
_MAX_MESSAGE = 4_096
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def reason_of(error: BaseException) -> str:
    """Return the reason for an exception: `UnicodeDecodeError` becomes `UNICODE_DECODE_ERROR`."""
    return valid_reason(_WORDS.sub("_", type(error).__name__))


def valid_reason(text: str) -> str:
    """Return a valid reason made from a text: at most 64 of A-Z 0-9 _, first a letter."""
    reason = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    if not reason or not reason[0].isalpha():
        reason = f"ERROR_{reason}".rstrip("_")
    if reason == _RESERVED:
        reason += "_ERROR"
    return reason[:_MAX_REASON].rstrip("_")


def message_of(error: BaseException) -> str:
    """Return the text of an exception, its class and arguments if it has none."""
    return valid_text(error) or type(error).__name__


def valid_text(value: object) -> str:
    """Return the text of a value, as it can be sent; empty if it cannot be converted."""
    try:
        return valid_message(str(value))
    except Exception:  # whatever the code of somebody else raises
        return ""


def valid_message(text: str) -> str:
    """Return a text that can be sent: at most 4,096 characters of Unicode."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE - 1]}…"
