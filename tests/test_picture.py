"""The picture in the README is up to date."""

from __future__ import annotations

from tests import picture


def test_picture_is_up_to_date() -> None:
    shown = picture.words(picture.FILE.read_text())
    assert "stalled" in shown
    assert shown == picture.words(picture.draw()), "run python -m tests.picture"
