"""The committed stubs are those of the protos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stubs import SOURCES, make_stubs


@pytest.mark.stubs
def test_committed_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    make_stubs(tmp_path)
    committed = {path.name: path.read_text() for path in (SOURCES / "stagecast/v1").glob("*_pb2*")}
    made = {path.name: path.read_text() for path in tmp_path.rglob("*_pb2*")}
    assert made == committed
