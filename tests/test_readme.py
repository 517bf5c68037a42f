"""The examples of README, guide and operations print what these say.

The shell and Python blocks of a document run one after the other, against the server that its
`stagecast serve` has started. A text block is the expected output of the block before it, with `…`
for any text.
The two lines that install are run by `.ci/run`; what needs Node.js is run by
`tests/rpc/http/test_node.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.documents import FOR_USERS, name_of
from tests.process import ROOT, ServerProcess, environment, running

_BLOCK = re.compile(r"^```(sh|python|ts|text)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_READY = "stagecast ready grpc=127.0.0.1:50051 http=127.0.0.1:8000\n"

WITH_EXAMPLES = [document for document in FOR_USERS if "```" in document.read_text()]


def examples(document: Path, *, of_node: bool = False) -> list[tuple[str, str, str]]:
    """Return the language, the text and the expected output of each block.

    Those that need Node.js are separate from the others.
    """
    blocks: list[tuple[str, str, str]] = []
    for language, text in _BLOCK.findall(document.read_text()):
        if language == "text":
            before = blocks.pop()
            blocks.append((before[0], before[1], text))
        else:
            blocks.append((language, text, ""))
    return [
        (language, text, expected)
        for language, text, expected in blocks
        if "venv .venv &&" not in text
        and of_node is (language == "ts" or text.startswith(("npm ", "npx ")))
    ]


def pattern_of(expected: str) -> re.Pattern[str]:
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


def _serving(text: str, cwd: Path) -> contextlib.AbstractAsyncContextManager[ServerProcess]:
    """Return the server that a block starts, on free ports."""
    program, command, *options = shlex.split(text)
    assert (program, command) == ("stagecast", "serve")
    db = "stagecast.db"
    if "--db" in options:
        at = options.index("--db")
        _, db = options[at : at + 2]
        del options[at : at + 2]
    return running(cwd / db, *options)


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=name_of)
async def test_examples_print_what_the_document_says(document: Path, tmp_path: Path) -> None:
    server: ServerProcess | None = None
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(600):
        for language, text, expected in examples(document):
            if text.startswith("stagecast serve"):
                if "--processes" in text and sys.platform != "linux":
                    continue
                assert expected in ("", _READY)
                assert server is None or await server.stop() == 0
                server = await stack.enter_async_context(_serving(text, tmp_path))
                continue
            assert server is not None, text
            output = await _run_example(language, text, server, tmp_path)
            assert pattern_of(expected).search(output), f"{text}\nprinted\n{output}"
        assert server is not None
        assert await server.stop() == 0


def test_every_block_is_an_example_or_its_output() -> None:
    actual = {name_of(document): len(examples(document)) for document in WITH_EXAMPLES}
    assert actual == {"README.md": 6, ".github/docs/guide.md": 18, ".github/docs/operations.md": 4}
    for document in WITH_EXAMPLES:
        text = document.read_text()
        fences = re.findall("^```", text, re.MULTILINE)
        assert len(fences) == 2 * len(_BLOCK.findall(text)), document
    assert "pip install" in (ROOT / "README.md").read_text()
