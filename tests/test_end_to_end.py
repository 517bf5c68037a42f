"""All faces end to end: reported by gRPC, read by gRPC and both REST paths, also after a kill."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.client import Stubs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.process import running
from tests.rest.answers import EXAMPLE

DATASET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
BATCH = "20250306150245647595"
DONE = "a8e0e5b5-78c6-4130-a5ce-25feb0e0b4ac"
BROKEN = "docs/broken scan.pdf"
BUSY = "docs/büro.md"


@pytest.mark.slow
async def test_every_face_shows_the_same_before_and_after_a_kill(tmp_path: Path) -> None:
    db = tmp_path / "stagecast.db"
    async with running(db) as first:
        async with Stubs(first.grpc) as client:
            await _ingest(client)
            before = await _read_everything(client, first.http)
        await first.kill()
    async with running(db) as second, Stubs(second.grpc) as client:
        after = await _read_everything(client, second.http)
        assert after == before
        await _finish(client)
        finished = await _read_everything(client, second.http)
        assert await second.stop() == 0
    _check_unfinished(before)
    _check_finished(finished)


async def test_single_completed_document_reads_as_the_documented_example(tmp_path: Path) -> None:
    async with running(tmp_path / "stagecast.db") as server, Stubs(server.grpc) as client:
        await client.reports.CreateBatch(
            pb.CreateBatchRequest(
                dataset_id=DATASET, batch_id=BATCH, documents=[pb.NewDocument(document_id=DONE)]
            )
        )
        progress = r.Progress(completed_segments=5, total_segments=5)
        await _report(
            client,
            pb.DocumentReport(document_id=DONE, stage=r.STAGE_COMPLETED, progress=progress),
        )
        text, _ = await _get_both(server.http)
    # Only the times, in whole seconds, may differ; they are replaced by the example's.
    assert re.sub(r":\d{10}\b", ":1741267200", text) == _compact(EXAMPLE)


async def _ingest(client: Stubs) -> None:
    """Submit three documents: one succeeds, one fails and one stays running."""
    await client.reports.CreateBatch(
        pb.CreateBatchRequest(
            dataset_id=DATASET,
            batch_id=BATCH,
            documents=[pb.NewDocument(document_id=d) for d in (DONE, BROKEN, BUSY)],
        )
    )
    for stage in (r.STAGE_PARSING, r.STAGE_CLEANING, r.STAGE_SPLITTING, r.STAGE_INDEXING):
        await _report(
            client,
            pb.DocumentReport(document_id=DONE, stage=stage),
            pb.DocumentReport(document_id=BUSY, stage=min(stage, r.STAGE_SPLITTING)),
        )
    five = r.Progress(completed_segments=5, total_segments=5)
    error = r.DocumentError(reason="PARSE_ERROR", message="page 7 is no PDF: größer als “A4”")
    await _report(
        client,
        pb.DocumentReport(document_id=DONE, stage=r.STAGE_COMPLETED, progress=five),
        pb.DocumentReport(document_id=BROKEN, stage=r.STAGE_PARSING, error=error),
        pb.DocumentReport(document_id=BUSY, progress=r.Progress(total_segments=9)),
    )


async def _finish(client: Stubs) -> None:
    await _report(client, pb.DocumentReport(document_id=BUSY, stage=r.STAGE_COMPLETED))


async def _report(client: Stubs, *reports: pb.DocumentReport) -> None:
    await client.reports.Report(
        pb.ReportRequest(dataset_id=DATASET, batch_id=BATCH, reports=reports)
    )


async def _read_everything(client: Stubs, http: str) -> dict[str, Any]:
    """Query every face that shows the batch."""
    batch = await client.status.GetBatch(s.GetBatchRequest(dataset_id=DATASET, batch_id=BATCH))
    dataset = await client.status.GetDataset(s.GetDatasetRequest(dataset_id=DATASET))
    page = await client.status.ListDocuments(
        s.ListDocumentsRequest(dataset_id=DATASET, batch_id=BATCH)
    )
    watch = client.status.WatchBatch(s.WatchBatchRequest(dataset_id=DATASET, batch_id=BATCH))
    first = await watch.read()
    assert isinstance(first, s.WatchBatchResponse)
    watch.cancel()
    assert list(first.snapshot.documents) == list(page.documents)
    assert first.resume_token == page.resume_token
    assert first.batch == batch.batch
    dify, cognee = await _get_both(http)
    return {
        "batch": batch.batch,
        "dataset": dataset.dataset,
        "documents": list(page.documents),
        "token": page.resume_token,
        "dify": dify,
        "cognee": cognee,
    }


async def _get_both(http: str) -> tuple[str, str]:
    async with httpx.AsyncClient(base_url=f"http://{http}", timeout=60) as rest:
        dify = await rest.get(f"/v1/datasets/{DATASET}/documents/{BATCH}/indexing-status")
        cognee = await rest.get("/api/v1/datasets/status", params={"dataset": DATASET})
    assert dify.status_code == cognee.status_code == 200
    return dify.text, cognee.text


def _check_unfinished(read: dict[str, Any]) -> None:
    assert read["batch"].state == r.BATCH_STATE_RUNNING
    assert read["dataset"].state == r.DATASET_STATE_RUNNING
    assert read["cognee"] == f'{{"{DATASET}":"DATASET_PROCESSING_STARTED"}}'
    done, broken, busy = read["documents"]
    expected = {
        "data": [
            _dify(done, "completed", completed_segments=5, total_segments=5),
            _dify(broken, "error", error="page 7 is no PDF: größer als “A4”"),
            _dify(busy, "splitting", total_segments=9),
        ]
    }
    assert read["dify"] == _compact(expected)


def _check_finished(read: dict[str, Any]) -> None:
    assert read["batch"].state == r.BATCH_STATE_PARTIALLY_SUCCEEDED
    assert read["dataset"].state == r.DATASET_STATE_FAILED
    assert read["cognee"] == f'{{"{DATASET}":"DATASET_PROCESSING_ERRORED"}}'
    busy = read["documents"][2]
    assert read["dify"].endswith(_compact(_dify(busy, "completed", total_segments=9)) + "]}")


def _dify(document: r.Document, status: str, **changes: Any) -> dict[str, Any]:
    """Return the entry of Dify's path for a document as read by gRPC."""
    entry = {
        "id": document.document_id,
        "indexing_status": status,
        "processing_started_at": _seconds(document, "processing_start_time"),
        "parsing_completed_at": _seconds(document, "parsing_complete_time"),
        "cleaning_completed_at": _seconds(document, "cleaning_complete_time"),
        "splitting_completed_at": _seconds(document, "splitting_complete_time"),
        "completed_at": _seconds(document, "complete_time"),
        "paused_at": None,
        "error": None,
        "stopped_at": _seconds(document, "stop_time"),
        "completed_segments": 0,
        "total_segments": 0,
    }
    return entry | changes


def _seconds(document: r.Document, field: Any) -> int | None:
    moment: Timestamp = getattr(document, field)
    return moment.seconds if document.HasField(field) else None


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
