"""The files that the demo ingests: those named, those in named directories, or the samples."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stagecast.demo.worker import Source
from stagecast.escaping import escape
from stagecast.failures import reason_of
from stagecast.paths import shown

SAMPLES = Path(__file__).parent / "samples"

_SUFFIXES = (".md", ".txt")
_MAX_ID_CHARACTERS = 256  # also of a display name
_NAMES_A_REASON = 3  # of what is left out of a directory

_log = logging.getLogger(__name__)


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the files named, and those in the directories named, each once; else the samples.

    A missing file is returned as well: its document fails when it is read. Of a directory, hidden
    files and directories are left out, and files that are no texts. The log names them, with the
    reason.

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
    left_out = _LeftOut(directory)
    texts = []
    for root, below, names in os.walk(directory, onerror=_warn_skipped):
        for path in _paths(root, below):
            if _is_hidden(path):
                left_out.add("hidden", path)
                below.remove(path.name)
            elif path.is_symlink():
                left_out.add("links to directories", path)
        for path in _paths(root, names):
            if _is_hidden(path):
                left_out.add("hidden", path)
            elif path.suffix.lower() not in _SUFFIXES:
                left_out.add("not *.txt or *.md", path)
            elif _is_file(path, left_out):
                texts.append(path)
    left_out.log()
    return sorted(texts)


def _paths(root: str, names: list[str]) -> Iterator[Path]:
    names.sort()  # which is also the order in which directories are walked
    return (Path(root, name) for name in tuple(names))


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_file(path: Path, left_out: _LeftOut) -> bool:
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        _warn_skipped(error)
        return False
    if not is_file:
        left_out.add("not regular files", path)
    return is_file


class _LeftOut:
    """What is not ingested of a directory: how many by reason, and the first of them by name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count: Counter[str] = Counter()
        self._first: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, path: Path) -> None:
        self._count[reason] += 1
        if len(self._first[reason]) < _NAMES_A_REASON:
            self._first[reason].append(shown(path.relative_to(self._directory)))

    def log(self) -> None:
        for reason, count in self._count.items():
            names = ", ".join(self._first[reason])
            more = count - len(self._first[reason])
            rest = f" and {more} more" if more else ""
            _log.warning("left out of %s (%s): %s%s", shown(self._directory), reason, names, rest)


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
