"""`buf curl` over reflection v1: the protos come from the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stagecast.app import App
from stagecast.v1 import resources_pb2 as r
from tests.rpc.calls import BATCH, Calls, stage
from tests.rpc.commands import Command, Finished, finish, read_until

REPORTS = "stagecast.v1.ReportService"
STATUS = "stagecast.v1.StatusService"

_NOT_FOUND = 5 << 3  # its exit codes: the gRPC code, shifted by three bits


class BufCurl:
    """`buf curl` on one server."""

    def __init__(self, address: str, home: Path) -> None:
        self.command = Command(
            *("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
            *("--reflect-protocol", "grpc-v1"),
            home=home,
        )
        self.url = f"http://{address}"

    def arguments(self, method: str, **fields: Any) -> tuple[str, ...]:
        """Return the arguments for calling an RPC."""
        return "--data", json.dumps(fields), f"{self.url}/{method}"

    async def call(self, method: str, **fields: Any) -> Finished:
        """Call an RPC."""
        return await self.command.run(*self.arguments(method, **fields))


@pytest.fixture
def buf(server: App, tmp_path: Path) -> BufCurl:
    return BufCurl(server.grpc_address, tmp_path)


async def test_buf_lists_the_services(buf: BufCurl) -> None:
    listed = await buf.command.run("--list-services", buf.url)
    assert listed.code == 0, listed.err
    assert {REPORTS, STATUS, "stagecast.v1.ControlService"} <= set(listed.out.split())


async def test_buf_lists_every_rpc(buf: BufCurl) -> None:
    listed = await buf.command.run("--list-methods", buf.url)
    assert listed.code == 0, listed.err
    rpcs = set(listed.out.split())
    assert {f"{REPORTS}/CreateBatch", f"{STATUS}/WatchBatch"} <= rpcs
    assert {"stagecast.v1.ControlService/Pause", "grpc.health.v1.Health/Check"} <= rpcs


async def test_buf_creates_reports_and_reads(buf: BufCurl, dataset_id: str) -> None:
    names = {"datasetId": dataset_id, "batchId": BATCH}
    created = await buf.call(f"{REPORTS}/CreateBatch", **names, documents=[{"documentId": "a"}])
    assert created.code == 0, created.err
    assert created.answers[0]["documentIds"] == ["a"]
    reports = [{"documentId": "a", "stage": "STAGE_INDEXING"}]
    reported = await buf.call(f"{REPORTS}/Report", **names, reports=reports)
    assert reported.code == 0, reported.err
    assert reported.answers[0]["results"][0]["outcome"] == "REPORT_OUTCOME_APPLIED"
    read = await buf.call(f"{STATUS}/GetDocument", **names, documentId="a")
    assert read.code == 0, read.err
    assert read.answers[0]["document"]["stage"] == "STAGE_INDEXING"


async def test_buf_watches_every_transition_to_the_end(buf: BufCurl, calls: Calls) -> None:
    await calls.create("a")
    names = {"datasetId": calls.dataset_id, "batchId": BATCH}
    async with buf.command.running(*buf.arguments(f"{STATUS}/WatchBatch", **names)) as process:
        read = await read_until(process, '"serverTime"')
        await calls.report(stage("a", r.STAGE_PARSING))
        await calls.report(stage("a", r.STAGE_COMPLETED))
        ended = await finish(process, read=read)
    assert ended.code == 0, ended.err
    first, *others = ended.answers
    assert first["snapshot"]["complete"]
    transitions = [each for answer in others for each in answer.get("transitions", [])]
    assert [int(each["revision"]) for each in transitions] == [4, 5]
    assert others[-1]["batch"]["state"] == "BATCH_STATE_SUCCEEDED"


async def test_buf_shows_an_error_with_its_details(buf: BufCurl, dataset_id: str) -> None:
    shown = await buf.call(f"{STATUS}/GetBatch", datasetId=dataset_id, batchId="nope")
    assert shown.code == _NOT_FOUND
    error = json.loads(shown.err)
    assert error["code"] == "not_found"
    assert "'nope'" in error["message"]
    assert [detail["type"] for detail in error["details"]] == ["google.rpc.ErrorInfo"]
