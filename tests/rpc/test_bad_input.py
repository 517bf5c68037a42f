"""Invalid values of every field: the error names the field and its rule, nothing is written.

The tables have for each RPC the fields that replace valid ones, and the path of the invalid field.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from stagecast.wire import report_requests
from tests.corpus import methods
from tests.rpc.calls import BATCH, Calls, Refusal, contents, new, refused

_YEAR_S = 365 * 86_400
_MAX_SEGMENTS = report_requests._MAX_SEGMENTS

# A valid request of every RPC, without the ids of its dataset and batch.
VALID: dict[str, Message] = {
    "GetDataset": ss.GetDatasetRequest(),
    "ListDatasets": ss.ListDatasetsRequest(),
    "ListBatches": ss.ListBatchesRequest(),
    "ListTransitions": ss.ListTransitionsRequest(),
    "WaitBatch": ss.WaitBatchRequest(),
    "WatchDatasets": ss.WatchDatasetsRequest(),
    "GetBatch": ss.GetBatchRequest(),
    "GetDocument": ss.GetDocumentRequest(document_id="a"),
    "ListDocuments": ss.ListDocumentsRequest(),
    "WatchBatch": ss.WatchBatchRequest(),
    "CreateBatch": rs.CreateBatchRequest(documents=[new("x")]),
    "AddDocuments": rs.AddDocumentsRequest(documents=[new("x")]),
    "SealBatch": rs.SealBatchRequest(),
    "StartAttempt": rs.StartAttemptRequest(document_id="a", worker="w1"),
    "Report": rs.ReportRequest(reports=[rs.DocumentReport(document_id="a", stage=r.STAGE_PARSING)]),
    "Heartbeat": rs.HeartbeatRequest(documents=[rs.HeartbeatDocument(document_id="a")]),
    "Pause": cs.PauseRequest(),
    "Resume": cs.ResumeRequest(),
    "Stop": cs.StopRequest(),
    "Retry": cs.RetryRequest(),
    "DeleteBatch": cs.DeleteBatchRequest(),
    "DeleteDataset": cs.DeleteDatasetRequest(),
}
FIELDS = {rpc: {field.name for field in valid.DESCRIPTOR.fields} for rpc, valid in VALID.items()}
IN_BATCH = [rpc for rpc in VALID if "batch_id" in FIELDS[rpc]]
IN_DATASET = [rpc for rpc in VALID if "dataset_id" in FIELDS[rpc]]

UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

Row = tuple[dict[str, Any], str, str]


def _new(**fields: Any) -> dict[str, Any]:
    return {"documents": [new("valid"), new(**{"document_id": "bad"} | fields)]}


def _report(**fields: Any) -> dict[str, Any]:
    valid = rs.DocumentReport(document_id="a", stage=r.STAGE_PARSING)
    bad = rs.DocumentReport(**{"document_id": "a"} | fields)
    return {"reports": [valid, bad]}


def _heartbeat(**fields: Any) -> dict[str, Any]:
    bad = rs.HeartbeatDocument(**{"document_id": "a"} | fields)
    return {"documents": [rs.HeartbeatDocument(document_id="a"), bad]}


def _error(**fields: Any) -> dict[str, Any]:
    return _report(error=r.DocumentError(**{"reason": "PARSE_FAILED"} | fields))


def _step(**fields: Any) -> dict[str, Any]:
    return _report(progress=r.Progress(step=r.Step(**{"name": "pages"} | fields)))


def _progress(completed: int, total: int | None = None) -> dict[str, Any]:
    return _report(progress=r.Progress(completed_segments=completed, total_segments=total))


DOCUMENTS: dict[str, Row] = {
    "too_many": ({"documents": [new()] * 10_001}, "documents", "0 to 10000 entries, has 10001"),
    "twice": (
        {"documents": [new("a1"), new(), new("b1"), new(), new("a1")]},
        "documents[4].document_id",
        "occurs twice: 'a1'",
    ),
    "id_long": (_new(document_id="文" * 257), "documents[1].document_id", "256 characters"),
    "id_newline": (_new(document_id="a\n"), "documents[1].document_id", "printable"),
    "id_nul": (_new(document_id="a\x00"), "documents[1].document_id", "printable"),
    "name_long": (_new(display_name="n" * 257), "documents[1].display_name", "256 characters"),
    "name_escape": (_new(display_name="\x1b[2J"), "documents[1].display_name", "printable"),
    "labels_many": (
        _new(labels={str(number): "" for number in range(33)}),
        "documents[1].labels",
        "at most 32 pairs",
    ),
    "label_key_empty": (_new(labels={"": "v"}), "documents[1].labels", "1 to 64 characters"),
    "label_key_long": (_new(labels={"k" * 65: ""}), "documents[1].labels", "1 to 64 characters"),
    "label_key_tab": (_new(labels={"\t": ""}), "documents[1].labels", "printable"),
    "label_long": (_new(labels={"k": "v" * 257}), "documents[1].labels", "256 characters"),
    "label_nul": (_new(labels={"k": "\x00"}), "documents[1].labels", "printable"),
}

PAGES: dict[str, Row] = {
    "size_negative": ({"page_size": -1}, "page_size", "0 to 1000"),
    "size_min": ({"page_size": -(2**31)}, "page_size", "0 to 1000"),
    "size_large": ({"page_size": 1_001}, "page_size", "0 to 1000"),
    "page_token": ({"page_token": "nonsense"}, "page_token", "malformed"),
}
HEARTBEATS: dict[str, Row] = {
    "heartbeat_zero": ({"heartbeat_interval": Duration()}, "heartbeat_interval", "1 s"),
    "heartbeat_short": (
        {"heartbeat_interval": Duration(nanos=999_999_000)},
        "heartbeat_interval",
        "1 s to 5 min",
    ),
    "heartbeat_long": (
        {"heartbeat_interval": Duration(seconds=300, nanos=1_000)},
        "heartbeat_interval",
        "1 s to 5 min",
    ),
    "heartbeat_invalid": (
        {"heartbeat_interval": Duration(seconds=5, nanos=-1)},
        "heartbeat_interval",
        "",
    ),
}
DATASETS: dict[str, Row] = {
    "dataset_malformed": (
        {"dataset_ids": [UUID, "my-dataset"]},
        "dataset_ids[1]",
        "must be a UUID",
    ),
    "dataset_empty": ({"dataset_ids": [""]}, "dataset_ids[0]", "must be a UUID"),
    "dataset_nul": ({"dataset_ids": ["\x00"]}, "dataset_ids[0]", "must be a UUID"),
    "datasets_many": (
        {"dataset_ids": [UUID] * 10_001},
        "dataset_ids",
        "0 to 10000 entries, has 10001",
    ),
}
# Without a document's id, the whole batch is meant.
ONE_OR_ALL: dict[str, Row] = {
    "document_long": ({"document_id": "a" * 257}, "document_id", "1 to 256 characters"),
    "document_nul": ({"document_id": "a\x00"}, "document_id", "printable"),
}

BAD: dict[str, dict[str, Row]] = {
    "CreateBatch": DOCUMENTS
    | {
        "labels_many": ({"labels": {str(n): "" for n in range(33)}}, "labels", "32 pairs"),
        "label_key_empty": ({"labels": {"": "v"}}, "labels", "1 to 64 characters"),
        "label_newline": ({"labels": {"k": "a\nb"}}, "labels", "printable"),
        "stall_short": ({"stall_after": Duration(nanos=999_999_999)}, "stall_after", "1 s"),
        "stall_negative": ({"stall_after": Duration(seconds=-1)}, "stall_after", "1 s"),
        "stall_long": ({"stall_after": Duration(seconds=_YEAR_S + 1)}, "stall_after", "365 days"),
        "stall_invalid": ({"stall_after": Duration(seconds=9, nanos=-1)}, "stall_after", ""),
        "start_short": ({"start_after": Duration(nanos=1)}, "start_after", "0, or 1 s"),
        "seal_long": ({"seal_after": Duration(seconds=_YEAR_S + 1)}, "seal_after", "365 days"),
        "fail_short": ({"fail_after": Duration(nanos=1)}, "fail_after", "0, or 1 s"),
        "fail_huge": ({"fail_after": Duration(seconds=2**63 - 1)}, "fail_after", "365 days"),
        "fail_huge_nanos": ({"fail_after": Duration(seconds=9, nanos=2**31 - 1)}, "fail_after", ""),
        "request_long": ({"request_id": "r" * 129}, "request_id", "128 characters"),
        "request_newline": ({"request_id": "r\n"}, "request_id", "printable"),
        "name_long": ({"dataset_name": "n" * 257}, "dataset_name", "256 characters"),
        "name_nul": ({"dataset_name": "n\x00"}, "dataset_name", "printable"),
    },
    "AddDocuments": DOCUMENTS,
    "StartAttempt": {
        "document_empty": ({"document_id": ""}, "document_id", "1 to 256 characters"),
        "document_long": ({"document_id": "a" * 257}, "document_id", "1 to 256 characters"),
        "document_nul": ({"document_id": "a\x00"}, "document_id", "printable"),
        "worker_empty": ({"worker": ""}, "worker", "1 to 256 characters"),
        "worker_long": ({"worker": "w" * 257}, "worker", "1 to 256 characters"),
        "worker_newline": ({"worker": "w\n"}, "worker", "printable"),
    },
    "GetDocument": {
        "document_empty": ({"document_id": ""}, "document_id", "1 to 256 characters"),
        "document_long": ({"document_id": "a" * 257}, "document_id", "1 to 256 characters"),
        "document_newline": ({"document_id": "a\n"}, "document_id", "printable"),
    },
    "ListDocuments": PAGES
    | {
        "state_unknown": ({"states": [1, 7]}, "states[1]", "value 7"),
        "state_unspecified": ({"states": [0]}, "states[0]", "value 0"),
        "state_negative": ({"states": [-1]}, "states[0]", "value -1"),
        "stage_unknown": ({"stages": [1, 2, 99]}, "stages[2]", "value 99"),
        "stage_unspecified": ({"stages": [0]}, "stages[0]", "value 0"),
    },
    "ListDatasets": PAGES | DATASETS,
    "ListBatches": PAGES
    | {
        "state_unknown": ({"states": [1, 8]}, "states[1]", "value 8"),
        "state_unspecified": ({"states": [0]}, "states[0]", "value 0"),
        "state_negative": ({"states": [-1]}, "states[0]", "value -1"),
    },
    "ListTransitions": PAGES | ONE_OR_ALL,
    "WaitBatch": {
        "timeout_negative": ({"timeout": Duration(seconds=-1)}, "timeout", "0 s to 60 min"),
        "timeout_long": ({"timeout": Duration(seconds=3_601)}, "timeout", "0 s to 60 min"),
        "timeout_huge": ({"timeout": Duration(seconds=2**63 - 1)}, "timeout", "0 s to 60 min"),
        "timeout_invalid": ({"timeout": Duration(seconds=1, nanos=-1)}, "timeout", "sign"),
    },
    "WatchBatch": HEARTBEATS,
    "WatchDatasets": HEARTBEATS | DATASETS,
    "Pause": ONE_OR_ALL,
    "Resume": ONE_OR_ALL,
    "Stop": ONE_OR_ALL,
    "Retry": ONE_OR_ALL,
    "Report": {
        "none": ({"reports": []}, "reports", "1 to 1000 entries, has 0"),
        "too_many": (
            {"reports": [rs.DocumentReport(document_id="a", stage=r.STAGE_PARSING)] * 1_001},
            "reports",
            "1 to 1000 entries, has 1001",
        ),
        "document_empty": (_report(document_id="", stage=2), "reports[1].document_id", "1 to 256"),
        "document_long": (
            _report(document_id="a" * 257, stage=2),
            "reports[1].document_id",
            "1 to 256",
        ),
        "document_tab": (_report(document_id="\t", stage=2), "reports[1].document_id", "printable"),
        "empty": (_report(), "reports[1]", "must have a stage, progress or an error"),
        "only_a_time": (_report(event_time=Timestamp()), "reports[1]", "must have a stage"),
        "attempt_negative": (_report(stage=2, attempt=-1), "reports[1].attempt", "0 or more"),
        "attempt_future": (
            _report(stage=2, attempt=2**31 - 1),
            "reports[1].attempt",
            "not started",
        ),
        "stage_unknown": (_report(stage=7), "reports[1].stage", "value 7"),
        "stage_negative": (_report(stage=-1), "reports[1].stage", "value -1"),
        "completed_and_error": (
            _report(stage=r.STAGE_COMPLETED, error=r.DocumentError(reason="X")),
            "reports[1].error",
            "STAGE_COMPLETED",
        ),
        "error_empty": (_report(error=r.DocumentError()), "reports[1].error.reason", "A-Z"),
        "reason_lower": (_error(reason="failed"), "reports[1].error.reason", "A-Z"),
        "reason_long": (_error(reason="R" * 65), "reports[1].error.reason", "1 to 64"),
        "message_long": (
            _error(message="文" * 4_097),
            "reports[1].error.message",
            "at most 4096 characters, has 4097",
        ),
        "completed_negative": (
            _progress(-1),
            "reports[1].progress.completed_segments",
            "must be 0",
        ),
        "total_negative": (_progress(0, -1), "reports[1].progress.total_segments", "must be 0"),
        "completed_huge": (
            _progress(2**63 - 1),
            "reports[1].progress.completed_segments",
            "must be 0",
        ),
        "total_huge": (
            _progress(0, _MAX_SEGMENTS + 1),
            "reports[1].progress.total_segments",
            "must be 0",
        ),
        "completed_beyond_total": (
            _progress(6, 5),
            "reports[1].progress.completed_segments",
            "6 is more than the total of 5",
        ),
        "step_empty": (_step(name=""), "reports[1].progress.step.name", "1 to 64 characters"),
        "step_long": (_step(name="s" * 65), "reports[1].progress.step.name", "has 65"),
        "step_newline": (_step(name="s\n"), "reports[1].progress.step.name", "printable"),
        "step_negative": (_step(completed=-1), "reports[1].progress.step.completed", "must be 0"),
        "step_huge": (
            _step(total=_MAX_SEGMENTS + 1),
            "reports[1].progress.step.total",
            "must be 0",
        ),
        "step_beyond_total": (
            _step(completed=6, total=5),
            "reports[1].progress.step.completed",
            "6 is more than the total of 5",
        ),
        "time_early": (
            _report(stage=2, event_time=Timestamp(seconds=-(2**62))),
            "reports[1].event_time",
            "years 1 to 9999",
        ),
        "time_late": (
            _report(stage=2, event_time=Timestamp(seconds=253_402_300_800)),
            "reports[1].event_time",
            "years 1 to 9999",
        ),
        "time_nanos": (
            _report(stage=2, event_time=Timestamp(nanos=-1)),
            "reports[1].event_time",
            "years 1 to 9999",
        ),
    },
    "Heartbeat": {
        "none": ({"documents": []}, "documents", "1 to 1000 entries, has 0"),
        "too_many": (
            {"documents": [rs.HeartbeatDocument(document_id="a")] * 1_001},
            "documents",
            "has 1001",
        ),
        "document_empty": (_heartbeat(document_id=""), "documents[1].document_id", "1 to 256"),
        "document_long": (
            _heartbeat(document_id="d" * 257),
            "documents[1].document_id",
            "1 to 256",
        ),
        "document_tab": (_heartbeat(document_id="\t"), "documents[1].document_id", "printable"),
        "attempt_negative": (_heartbeat(attempt=-1), "documents[1].attempt", "0 or more"),
    },
}

BAD_DATASET_IDS = [
    "",
    "my-dataset",
    "0" * 32,
    "' OR 1=1 --",
    "../..",
    "\uff17" * 36,  # digits, but not ASCII
    "\x00",
    "x" * 9_999,
]
BAD_BATCH_IDS = [
    "",
    ".",
    "..",
    "b" * 129,
    "a/b",
    "a b",
    "a\n",
    "ü",
    "%2e%2e",
    "' OR 1=1 --",
    "\x00",
]


async def _refused(client: Stubs, rpc: str, dataset_id: str, fields: dict[str, Any]) -> Refusal:
    request = type(VALID[rpc])()
    request.CopyFrom(VALID[rpc])
    names = {"dataset_id": dataset_id} if rpc in IN_DATASET else {}
    names |= {"batch_id": BATCH} if rpc in IN_BATCH else {}
    if rpc == "CreateBatch":
        names["batch_id"] = "new"
    for name, value in (names | fields).items():
        request.ClearField(name)
        request.MergeFrom(type(request)(**{name: value}))
    stubs = (client.reports, client.status, client.controls)
    [call] = [getattr(stub, rpc)(request) for stub in stubs if hasattr(stub, rpc)]
    return await refused(call.read() if rpc.startswith("Watch") else call)


async def _check(
    calls: Calls, config: Config, rpc: str, fields: dict[str, Any], path: str, rule: str
) -> None:
    before = contents(config.db)
    refusal = await _refused(calls.client, rpc, calls.dataset_id, fields)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal
    assert refusal.reason == "FIELD_INVALID"
    [(field, reported)] = refusal.fields.items()
    # The path of an invalid label ends with its key.
    assert field == path or (path.endswith("labels") and field.startswith(path))
    assert rule in reported
    assert refusal.metadata["field"] == field
    assert refusal.message == f"{field}: {reported}"
    assert contents(config.db) == before, "nothing was written"


@pytest.mark.parametrize("rpc", BAD)
async def test_bad_field_is_refused_and_nothing_is_written(
    calls: Calls, config: Config, rpc: str, subtests: pytest.Subtests
) -> None:
    await calls.create("a", more_documents_follow=True)
    for name, (fields, path, rule) in BAD[rpc].items():
        with subtests.test(name):
            await _check(calls, config, rpc, fields, path, rule)


@pytest.mark.parametrize("rpc", IN_DATASET)
async def test_bad_id_of_a_dataset_or_batch_is_refused(
    calls: Calls, config: Config, rpc: str, subtests: pytest.Subtests
) -> None:
    await calls.create("a", more_documents_follow=True)
    for value in BAD_DATASET_IDS:
        if rpc == "ListBatches" and not value:
            continue  # it lists all datasets
        with subtests.test("dataset_id", value=value):
            fields = {"dataset_id": value}
            await _check(calls, config, rpc, fields, "dataset_id", "must be a UUID")
    for value in BAD_BATCH_IDS if rpc in IN_BATCH else ():
        if rpc == "CreateBatch" and not value:
            continue  # an id is generated
        with subtests.test("batch_id", value=value):
            await _check(calls, config, rpc, {"batch_id": value}, "batch_id", "1 to 128 characters")


def test_every_rpc_is_in_the_table() -> None:
    assert {path.rpartition("/")[2] for path in methods()} == VALID.keys()


def test_every_field_of_every_request_is_in_a_table() -> None:
    """Fields without an invalid value are flags, and the resume token, which has its own tests."""
    flags = {"more_documents_follow", "follow", "transitions_only", "fail_on_expired_token"}
    flags |= {"allow_partial", "only_if_pending"}
    for rpc, fields_of_rpc in FIELDS.items():
        tested = {name for fields, _, _ in BAD.get(rpc, {}).values() for name in fields}
        tested |= {"dataset_id", "batch_id", "resume_token"} | flags
        assert not fields_of_rpc - tested, rpc
