"""`buf curl` by the Connect protocol, with the protos of this repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stagecast.app import App
from tests.process import ROOT
from tests.rpc.calls import BATCH
from tests.rpc.commands import Command, Finished
from tests.rpc.http.requests import REPORTS, STATUS

_NOT_FOUND = 5 << 3  # its exit codes: the gRPC code, shifted by three bits


class BufCurl:
    """`buf curl --protocol connect` on one server."""

    def __init__(self, address: str, home: Path) -> None:
        schema = ("--schema", str(ROOT / "proto"))
        self._command = Command("buf", "curl", "--protocol", "connect", *schema, home=home)
        self._url = f"http://{address}"

    async def call(self, rpc: str, **fields: Any) -> Finished:
        """Call an RPC."""
        return await self._command.run("--data", json.dumps(fields), self._url + rpc)


@pytest.fixture
def buf(server: App, tmp_path: Path) -> BufCurl:
    return BufCurl(server.http_address, tmp_path)


async def test_buf_creates_and_reads(buf: BufCurl, dataset_id: str) -> None:
    names = {"datasetId": dataset_id, "batchId": BATCH}
    created = await buf.call(f"{REPORTS}/CreateBatch", **names, documents=[{"documentId": "a"}])
    assert created.code == 0, created.err
    assert created.answers[0]["documentIds"] == ["a"]
    read = await buf.call(f"{STATUS}/GetDocument", **names, documentId="a")
    assert read.answers[0]["document"]["stage"] == "STAGE_WAITING", read.err


async def test_buf_shows_an_error_with_its_details(buf: BufCurl, dataset_id: str) -> None:
    shown = await buf.call(f"{STATUS}/GetBatch", datasetId=dataset_id, batchId="nope")
    assert shown.code == _NOT_FOUND
    error = json.loads(shown.err)
    assert error["code"] == "not_found"
    assert "'nope'" in error["message"]
    assert [detail["type"] for detail in error["details"]] == ["google.rpc.ErrorInfo"]
