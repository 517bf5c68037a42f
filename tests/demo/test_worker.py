"""The worker ingests files, and reports what becomes of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlite_utils import Database

import stagecast
from stagecast import DocumentState, Stage, TransitionKind
from stagecast.demo.incidents import FAILS, STALLS, Incidents
from stagecast.demo.index import Index
from stagecast.demo.sources import find_sources
from stagecast.demo.worker import Interrupted, Source, Worker
from tests.client.reporting.background import Background

DATASET = "worker"


def sources_of(**files: Path) -> list[Source]:
    return [Source(document_id=name, display_name=name, path=path) for name, path in files.items()]


def ingest(
    server: Background,
    client: stagecast.Client,
    sources: list[Source],
    worker: Worker,
) -> dict[str, stagecast.Document]:
    """Ingest sources; return their documents at the end."""
    with stagecast.Reporter(server.address) as reporter:
        batch = reporter.batch(DATASET, [source.document for source in sources], strict=True)
        with batch:
            worker.ingest_all(batch)
    return {one.document_id: one for one in client.list_documents(DATASET, batch.id)}


def test_samples_go_through_all_stages(
    server: Background, client: stagecast.Client, index: Index
) -> None:
    sources = find_sources([])
    documents = ingest(server, client, sources, Worker(sources, index))
    assert {one.state for one in documents.values()} == {DocumentState.SUCCEEDED}
    with Database(index.path) as db:
        for document in documents.values():
            chunks = db.table("chunks").count_where("document_id = ?", [document.document_id])
            assert document.progress.completed_segments == chunks > 2
            assert document.progress.total_segments == chunks
    [batch] = client.list_batches(DATASET)
    transitions = client.history(DATASET, batch.batch_id, sources[0].document_id)
    assert [
        one.document and one.document.stage
        for one in transitions
        if one.kind != TransitionKind.STARTED
    ] == [
        Stage.WAITING,
        Stage.PARSING,
        Stage.CLEANING,
        Stage.SPLITTING,
        Stage.INDEXING,
        Stage.COMPLETED,
    ]


def test_a_document_that_cannot_be_ingested_fails_with_its_reason(
    server: Background, client: stagecast.Client, index: Index, tmp_path: Path
) -> None:
    undecodable, empty, good = (tmp_path / name for name in ("undecodable", "empty", "good"))
    undecodable.write_bytes(b"fine\nnot fine: \xff")
    empty.write_text(" \n\x00\n")
    good.write_text("A text.")
    sources = sources_of(
        undecodable=undecodable,
        empty=empty,
        missing=tmp_path / "missing",
        directory=tmp_path,
        good=good,
    )
    documents = ingest(server, client, sources, Worker(sources, index))
    reported = {
        name: (document.error.reason, document.stage)
        for name, document in documents.items()
        if document.error
    }
    assert reported == {
        "undecodable": ("DECODE_ERROR", Stage.PARSING),
        "empty": ("NO_TEXT", Stage.CLEANING),
        "missing": ("READ_ERROR", Stage.PARSING),
        "directory": ("READ_ERROR", Stage.PARSING),
    }
    assert "offset 15, line 2" in str(documents["undecodable"].error)
    assert documents["good"].state == DocumentState.SUCCEEDED


def test_failing_index_fails_the_document(
    server: Background, client: stagecast.Client, index: Index, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("A text.")
    with Database(index.path) as db:
        db.table("chunks_fts").drop()
    sources = sources_of(text=text)
    documents = ingest(server, client, sources, Worker(sources, index))
    error = documents["text"].error
    assert error
    assert error.reason == "INDEX_ERROR"
    assert documents["text"].stage == Stage.INDEXING


def test_staged_incidents_happen_to_their_documents_only(
    server: Background, client: stagecast.Client, index: Index
) -> None:
    sources, incidents = find_sources([]), Incidents()
    incidents.stalled.set()
    worker = Worker(sources, index, incidents=incidents)
    documents = ingest(server, client, sources, worker)
    failed = [name for name, one in documents.items() if one.state == DocumentState.FAILED]
    assert failed == [FAILS]
    incidents.happen(FAILS)  # a second attempt succeeds


def test_document_that_hangs_goes_on_when_it_counts_as_stalled() -> None:
    incidents, passed = Incidents(), Event()

    def hang() -> None:
        incidents.happen(STALLS)
        passed.set()

    thread = Thread(target=hang)
    thread.start()
    assert not passed.is_set()
    incidents.stalled.set()
    thread.join()
    assert passed.is_set()


class SlowIndex:
    """An index that adds nothing until it is released."""

    def __init__(self) -> None:
        self.reached = Event()
        self.released = Event()

    def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        self.reached.set()
        self.released.wait()


def test_interrupted_worker_ends_its_documents_soon(
    server: Background, tmp_path: Path, client: stagecast.Client
) -> None:
    text, index = tmp_path / "text", SlowIndex()
    text.write_text("One sentence after another. " * 300)
    sources = sources_of(text=text)
    worker = Worker(sources, index)

    def interrupt() -> None:
        index.reached.wait()
        worker.interrupt()
        index.released.set()

    thread = Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        ingest(server, client, sources, worker)
    thread.join()
