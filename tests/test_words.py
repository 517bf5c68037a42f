"""Names in the code, the tests and the schema do not contain the words of `words.txt`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database

from stagecast.store.sqlite.migrations import migrations
from tests.process import ROOT

_WORDS = Path(__file__).with_name("words.txt")
# Terms of the field that contain one of the words, the reason `DOCUMENT_TAKEN`, and a method of
# uvicorn that is overridden.
_TERMS = re.compile("not_?found|(in|single)_?flight|document_?taken|on_tick", re.IGNORECASE)
_PART = re.compile("[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def _words(*, of_tests: bool) -> set[str]:
    lines = [line for line in _WORDS.read_text().splitlines() if line and not line.startswith("#")]
    words = {line.split()[0] for line in lines}
    return {word.removeprefix("*") for word in words if word.startswith("*") or not of_tests}


def _defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines; other names in it are those of libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _words_in(name: str) -> set[str]:
    """Return the words of the list that a name contains."""
    parts = {part.lower() for part in _PART.findall(_TERMS.sub("", name))}
    return parts & _words(of_tests=name.startswith("test_"))


def _modules() -> Iterator[Path]:
    """Yield all modules but the generated ones."""
    for folder in ("src/stagecast", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if "v1" not in path.parts:
                yield path


def test_names_in_the_code_avoid_the_words() -> None:
    forbidden = {
        f"{path.relative_to(ROOT)}: {name}: {sorted(words)}"
        for path in _modules()
        for name in (path.stem, path.parent.name, *_defined_names(ast.parse(path.read_text())))
        if (words := _words_in(name))
    }
    assert not forbidden, "\n".join(sorted(forbidden))


def test_names_in_the_schema_avoid_the_words() -> None:
    db = Database(memory=True)
    migrations.apply(db)
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    names |= {
        f"{table}.{name}"
        for table in db.table_names()
        for (name,) in db.execute("SELECT name FROM pragma_table_xinfo(?)", [table])
    }
    assert "transitions.write_id" in names
    assert not {name for name in names if _words_in(name)}
