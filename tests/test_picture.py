"""The picture in the README shows what the command shows."""

from __future__ import annotations

from tests import picture


def test_picture_shows_what_watch_shows_today() -> None:
    shown = picture.words(picture.FILE.read_text())
    assert "stalled" in shown
    assert shown == picture.words(picture.draw()), "run python -m tests.picture"
