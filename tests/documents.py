"""The documents that tests compare with the code: README, and those in `.github`."""

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
    """Return the name of a document in test ids."""
    return str(document.relative_to(ROOT))


def links(document: Path) -> list[str]:
    """Return the targets of the links and pictures of a document."""
    return _LINK.findall(_FENCED.sub("", document.read_text()))


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = _HEADING.findall(_FENCED.sub("", document.read_text()))
    return {_slug(heading) for heading in headings}


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
