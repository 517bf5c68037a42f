"""The README names a test for each promise; those tests are there."""

from __future__ import annotations

import re

from tests.process import ROOT

_NAMED = re.compile(r"\[`(test_\w+)`\]\((tests/\S+\.py)\)")


def test_readme_names_a_test_that_exists_for_each_of_the_nine_promises() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = readme.partition("| promise | held by |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(rows) == 9
    assert all(_NAMED.search(row) for row in rows)
    for name, path in _NAMED.findall(readme):
        assert f"def {name}(" in (ROOT / path).read_text(), name
