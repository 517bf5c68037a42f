"""The files that the demo ingests: those named, those in named directories, or the samples."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from stagecast.demo.worker import Source
from stagecast.escaping import escape
from stagecast.failures import reason_of
from stagecast.paths import shown

SAMPLES = Path(__file__).parent / "samples"

_SUFFIXES = (".md", ".txt")
_MAX_ID_CHARACTERS = 256  # also of a display name

_log = logging.getLogger(__name__)


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the files named, and those in the directories named, each once; else the samples.

    A missing file is returned as well: its document fails when it is read.

    Raises:
        ValueError: a directory contains no text files.
    """
    if not paths:
        return [_source(path, path.relative_to(SAMPLES.parent)) for path in _text_files_in(SAMPLES)]
    files = {path: None for path in paths for path in _expand(path)}
    return [_source(path, path) for path in files]


def _expand(path: Path) -> Iterable[Path]:
    if not os.path.isdir(path):  # noqa: PTH112 - Path raises without permission
        return [path]
    texts = _text_files_in(path)
    if not texts:
        raise ValueError(f"no *.txt or *.md files in {shown(path)}")
    return texts


def _text_files_in(directory: Path) -> list[Path]:
    files = (
        Path(root, name)
        for root, _, names in os.walk(directory, onerror=_warn_skipped)
        for name in names
    )
    texts = (path for path in files if path.suffix.lower() in _SUFFIXES)
    return [path for path in sorted(texts) if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        _warn_skipped(error)
        return False


def _warn_skipped(error: OSError) -> None:
    _log.warning("skipped %s: %s", shown(error.filename), reason_of(error))


def _source(path: Path, name: Path) -> Source:
    return Source(document_id=_printable(str(name)), display_name=_printable(name.name), path=path)


def _printable(text: str) -> str:
    """Return a valid id for a text, different for each text; shortened if it is too long."""
    text = escape(text)
    if len(text) > _MAX_ID_CHARACTERS:
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        text = f"{digest}…{text[-(_MAX_ID_CHARACTERS - 13) :]}"
    return text
