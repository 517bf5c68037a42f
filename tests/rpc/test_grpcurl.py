"""grpcurl with `-plaintext` only, as people type it by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stagecast.app import App
from stagecast.v1 import resources_pb2 as r
from tests.rpc.calls import BATCH, Calls, failure, stage
from tests.rpc.commands import Command, Finished, finish, read_until

REPORTS = "stagecast.v1.ReportService"
STATUS = "stagecast.v1.StatusService"

_ERROR = 64  # its exit codes: this and the gRPC code
_NOT_FOUND, _INVALID_ARGUMENT = _ERROR + 5, _ERROR + 3


class Grpcurl:
    """grpcurl on one server."""

    def __init__(self, address: str, home: Path) -> None:
        self.command = Command("grpcurl", "-plaintext", home=home)
        self.address = address

    async def __call__(self, *arguments: str) -> Finished:
        return await self.command.run(self.address, *arguments)

    async def call(self, method: str, **fields: Any) -> Finished:
        """Call an RPC."""
        return await self.command.run("-d", json.dumps(fields), self.address, method)


@pytest.fixture
def grpcurl(server: App, tmp_path: Path) -> Grpcurl:
    return Grpcurl(server.grpc_address, tmp_path)


async def test_grpcurl_lists_the_services(grpcurl: Grpcurl) -> None:
    listed = await grpcurl("list")
    assert listed.code == 0, listed.err
    assert listed.out.split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "stagecast.v1.ControlService",
        "stagecast.v1.ReportService",
        "stagecast.v1.StatusService",
    ]


async def test_grpcurl_lists_the_rpcs_of_a_service(grpcurl: Grpcurl) -> None:
    listed = await grpcurl("list", REPORTS)
    assert listed.code == 0, listed.err
    names = ("AddDocuments", "CreateBatch", "Heartbeat", "Report", "SealBatch", "StartAttempt")
    assert listed.out.split() == [f"{REPORTS}.{name}" for name in names]


async def test_grpcurl_describes_a_message(grpcurl: Grpcurl) -> None:
    described = await grpcurl("describe", "stagecast.v1.Progress")
    assert described.code == 0, described.err
    assert "int64 completed_segments = 1;" in described.out
    assert "optional int64 total_segments = 2;" in described.out


async def test_grpcurl_describes_an_rpc(grpcurl: Grpcurl) -> None:
    described = await grpcurl("describe", f"{STATUS}.WatchBatch")
    assert described.code == 0, described.err
    assert "returns ( stream .stagecast.v1.WatchBatchResponse )" in described.out


async def test_grpcurl_describes_all_listed_services(grpcurl: Grpcurl) -> None:
    described = await grpcurl("describe")
    assert described.code == 0, described.err
    for service in (await grpcurl("list")).out.split():
        assert f"{service} is a service:" in described.out


async def test_grpcurl_checks_health(grpcurl: Grpcurl) -> None:
    requested = await grpcurl("grpc.health.v1.Health/Check")
    assert requested.code == 0, requested.err
    assert requested.answers == [{"status": "SERVING"}]
    requested = await grpcurl.call("grpc.health.v1.Health/Check", service=STATUS)
    assert requested.answers == [{"status": "SERVING"}]
    requested = await grpcurl.call("grpc.health.v1.Health/Check", service="nope")
    assert requested.code == _NOT_FOUND


async def test_grpcurl_creates_reports_and_reads(grpcurl: Grpcurl, dataset_id: str) -> None:
    names = {"dataset_id": dataset_id, "batch_id": BATCH}
    created = await grpcurl.call(
        f"{REPORTS}/CreateBatch",
        **names,
        documents=[{"document_id": "a"}, {"document_id": "b", "labels": {"k": "v"}}],
        stall_after="90s",
    )
    assert created.code == 0, created.err
    [answer] = created.answers
    assert answer["document_ids"] == ["a", "b"]
    assert answer["batch"]["stall_after"] == "90s"

    reported = await grpcurl.call(
        f"{REPORTS}/Report",
        **names,
        reports=[
            {"document_id": "a", "stage": "STAGE_COMPLETED"},
            {"document_id": "b", "progress": {"completed_segments": 3, "total_segments": 9}},
        ],
    )
    assert reported.code == 0, reported.err
    assert [result["outcome"] for result in reported.answers[0]["results"]] == [
        "REPORT_OUTCOME_APPLIED"
    ] * 2

    read = await grpcurl.call(f"{STATUS}/GetBatch", **names)
    assert read.code == 0, read.err
    batch = read.answers[0]["batch"]
    assert batch["state"] == "BATCH_STATE_RUNNING"
    assert batch["counts"] == {"total": "2", "pending": "1", "succeeded": "1"}
    assert batch["progress"] == {"completed_segments": "3"}


async def test_grpcurl_watches_every_transition_to_the_end(grpcurl: Grpcurl, calls: Calls) -> None:
    await calls.create("a", "b")
    request = json.dumps({"dataset_id": calls.dataset_id, "batch_id": BATCH})
    watch = grpcurl.command.running("-d", request, grpcurl.address, f"{STATUS}/WatchBatch")
    async with watch as process:
        read = await read_until(process, '"server_time"')
        for reached in range(r.STAGE_PARSING, r.STAGE_COMPLETED + 1):
            await calls.report(stage("a", r.Stage.ValueType(reached)))
        await calls.report(failure("b"))
        ended = await finish(process, read=read)
    assert ended.code == 0, ended.err
    first, *others = ended.answers
    assert first["snapshot"]["complete"]
    assert len(first["snapshot"]["documents"]) == 2
    transitions = [each for answer in others for each in answer.get("transitions", [])]
    assert [int(each["revision"]) for each in transitions] == list(range(5, 11))
    assert [each["document"]["stage"] for each in transitions[:5]] == [
        *("STAGE_PARSING", "STAGE_CLEANING", "STAGE_SPLITTING", "STAGE_INDEXING"),
        "STAGE_COMPLETED",
    ]
    assert transitions[5]["document"]["error"]["reason"] == "PARSE_FAILED"
    assert others[-1]["batch"]["state"] == "BATCH_STATE_PARTIALLY_SUCCEEDED"


async def test_grpcurl_shows_the_details_of_an_error(grpcurl: Grpcurl, dataset_id: str) -> None:
    shown = await grpcurl.call(f"{STATUS}/GetBatch", dataset_id=dataset_id, batch_id="nope")
    assert shown.code == _NOT_FOUND
    assert "no batch 'nope'" in shown.err
    assert '"reason":"BATCH_NOT_FOUND"' in shown.err
    assert '"domain":"stagecast"' in shown.err
    assert dataset_id in shown.err


async def test_grpcurl_shows_the_invalid_field(grpcurl: Grpcurl, dataset_id: str) -> None:
    shown = await grpcurl.call(f"{STATUS}/GetBatch", dataset_id=dataset_id)
    assert shown.code == _INVALID_ARGUMENT
    assert '"field":"batch_id"' in shown.err
    assert "must be 1 to 128 characters" in shown.err
