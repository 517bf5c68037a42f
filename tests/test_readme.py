"""The README's examples do what it says.

Its shell and Python blocks run one after the other against one server; a text block behind one says
what it prints: these lines in this order, with `…` for anything.
The two lines that install are run by `.ci/run`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.process import ROOT, ServerProcess, environment, running

_BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def _examples() -> list[tuple[str, str, str]]:
    """Return the language, the text and the expected output of each block."""
    examples: list[tuple[str, str, str]] = []
    for language, text in _BLOCK.findall((ROOT / "README.md").read_text()):
        if language == "text":
            before = examples.pop()
            examples.append((before[0], before[1], text))
        else:
            examples.append((language, text, ""))
    return [example for example in examples if "pip install" not in example[1]]


def _pattern(expected: str) -> re.Pattern[str]:
    anything = re.escape("…")
    return re.compile(re.escape(expected.strip("\n")).replace(anything, ".*?"), re.DOTALL)


async def _run(*command: str, cwd: Path, server: ServerProcess) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", STAGECAST_GRPC=server.grpc
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def _run_example(language: str, text: str, server: ServerProcess, cwd: Path) -> str:
    for address, real in (("127.0.0.1:50051", server.grpc), ("127.0.0.1:8000", server.http)):
        text = text.replace(address, real)
    if language == "python":
        return await _run(sys.executable, "-c", text, cwd=cwd, server=server)
    return await _run("bash", "-euc", text, cwd=cwd, server=server)


async def test_examples_print_what_the_readme_says(tmp_path: Path) -> None:
    (_, serve, ready), *examples, (_, serve_several, _) = _examples()
    assert serve == "stagecast serve --db walk.db\n"
    assert ready == "stagecast ready grpc=127.0.0.1:50051 http=127.0.0.1:8000\n"
    assert serve_several == "stagecast serve --db walk.db --processes 4\n"
    assert len(examples) == 14
    async with running(tmp_path / "walk.db") as server, asyncio.timeout(600):
        for language, text, expected in examples:
            output = await _run_example(language, text, server, tmp_path)
            assert _pattern(expected).search(output), f"{text}\nprinted\n{output}"
    if sys.platform == "linux":
        async with running(tmp_path / "walk.db", "--processes", "4") as server:
            assert await server.stop() == 0


@pytest.mark.parametrize("document", ["README.md", ".github/CONTRIBUTING.md"])
def test_links_lead_to_files(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
