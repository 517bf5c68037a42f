"""The documents that tests hold to the code: README, and what is beside it in `.github`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.process import ROOT

DOCS = ROOT / ".github" / "docs"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / ".github").rglob("*.md")))
FOR_USERS = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))

_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(document: Path) -> str:
    """Return what a document is called in the names of tests."""
    return str(document.relative_to(ROOT))


def links(document: Path) -> list[str]:
    """Return where the links and pictures of a document lead."""
    return _LINK.findall(_FENCED.sub("", document.read_text()))


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = _HEADING.findall(_FENCED.sub("", document.read_text()))
    return {_slug(heading) for heading in headings}


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
