"""The chart of growth."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tests.bench.chart import Curve, draw

_SVG = "{http://www.w3.org/2000/svg}"


def test_curve_rises_with_its_costs(tmp_path: Path) -> None:
    path = tmp_path / "growth.svg"
    flat = Curve(name="report <flat>", points=[(1, 5), (10, 5), (100, 5)])
    rising = Curve(name="poll", points=[(1, 5), (10, 10), (100, 40)])
    draw(path, "CPU", "batches", [flat, rising])
    root = ET.fromstring(path.read_text())  # noqa: S314 - written by ourselves
    texts = [text.text for text in root.iter(f"{_SVG}text")]
    assert {"CPU", "batches", "report <flat>", "poll", "100", "8 x"} <= set(texts)
    lines = [
        [tuple(map(float, dot.split(","))) for dot in line.attrib["points"].split()]
        for line in root.iter(f"{_SVG}polyline")
    ]
    heights = [[y for _, y in line] for line in lines]
    assert len(set(heights[0])) == 1
    assert heights[1][0] == heights[0][0]
    assert heights[1] == sorted(heights[1], reverse=True)
    assert [x for x, _ in lines[0]] == sorted({x for x, _ in lines[0]})
