"""Builders of model data, and calls that store and read it.

Every builder has valid defaults and takes changes by keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from stagecast.model import (
    ALL,
    Batch,
    BatchEdit,
    Creation,
    Dataset,
    Document,
    DocumentCounts,
    DocumentError,
    DocumentState,
    NewBatch,
    NewDocument,
    Progress,
    Report,
    SegmentTotals,
    Stage,
    Transition,
    TransitionKind,
    WatchRequest,
    apply_report,
    move_counts,
    register,
    start_attempt,
)
from stagecast.store import Store, Wanted, WriteTransaction
from stagecast.wire import StoreEncoder

DATASET_ID = "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"
BATCH_ID = "20261122093015482913"
NOW = 1_800_000_000_000_000  # microseconds: well after all times in the builders
ENCODER = StoreEncoder()
ERROR = DocumentError(reason="PARSE_FAILED", message="Page 3 is not text.")
OTHER_ERROR = DocumentError(reason="INDEX_FULL", message="No space left.")

_STAGE_TIMES = (
    (Stage.WAITING, "processing_started_at"),
    (Stage.PARSING, "parsing_completed_at"),
    (Stage.CLEANING, "cleaning_completed_at"),
    (Stage.SPLITTING, "splitting_completed_at"),
)


def document(**changes: Any) -> Document:
    """Return a newly registered document, with changes."""
    fresh = Document(
        dataset_id=DATASET_ID,
        batch_id=BATCH_ID,
        document_id="doc-0",
        position=0,
        display_name="",
        labels={},
        created_at=1_000,
        state=DocumentState.PENDING,
        stage=Stage.WAITING,
        attempt=1,
        worker="",
        stalled=False,
        progress=Progress(),
        error=None,
        revision=2,
        updated_at=1_000,
    )
    return replace(fresh, **changes)


def document_in(state: DocumentState, stage: Stage = Stage.WAITING, **changes: Any) -> Document:
    """Return a document that worker `w1` brought to a state and stage, with consistent times.

    It was started at 2_000, left PARSING at 3_000, CLEANING at 4_000, SPLITTING at 5_000, and was
    paused or ended at 9_000.
    """
    times: dict[str, int | None] = {
        name: number * 1_000 for number, (left, name) in enumerate(_STAGE_TIMES, 2) if stage > left
    }
    if state is not DocumentState.PENDING:
        times.setdefault("processing_started_at", 2_000)
    if state is DocumentState.PAUSED:
        times["paused_at"] = 9_000
    if state is DocumentState.SUCCEEDED:
        times["completed_at"] = 9_000
    if state in (DocumentState.FAILED, DocumentState.STOPPED):
        times["stopped_at"] = 9_000
    return document(
        **{
            "state": state,
            "stage": stage,
            "worker": "" if state is DocumentState.PENDING else "w1",
            "error": ERROR if state is DocumentState.FAILED else None,
            "updated_at": 9_000,
            **times,
            **changes,
        }
    )


def batch(**changes: Any) -> Batch:
    """Return an open batch without documents or transitions, with changes."""
    fresh = Batch(
        key=1,
        dataset_id=DATASET_ID,
        batch_id=BATCH_ID,
        labels={},
        start_after_us=0,
        stall_after_us=300_000_000,
        fail_after_us=3_600_000_000,
        seal_after_us=0,
        created_at=1_000,
        sealed=False,
        counts=DocumentCounts(),
        segments=SegmentTotals(),
        revision=0,
        progress_seq=0,
        server_epoch=0,
        updated_at=1_000,
        ended_at=None,
    )
    return replace(fresh, **changes)


def new_batch(*document_ids: str, **changes: Any) -> NewBatch:
    """Return the request for a sealed batch without timeouts, with changes."""
    request = NewBatch(
        dataset_id=DATASET_ID,
        dataset_name="",
        batch_id=BATCH_ID,
        documents=[new_document(document_id) for document_id in document_ids],
        labels={},
        more_documents_follow=False,
        start_after_us=0,
        stall_after_us=0,
        fail_after_us=0,
        seal_after_us=0,
        request_id="",
    )
    return replace(request, **changes)


def new_document(document_id: str) -> NewDocument:
    """Return the request for a document."""
    return NewDocument(document_id=document_id, display_name="", labels={})


def watch_request(**changes: Any) -> WatchRequest:
    """Return the request for a watch with a snapshot and counters, with changes."""
    request = WatchRequest(
        dataset_id=DATASET_ID,
        batch_id=BATCH_ID,
        resume_token="",
        follow=False,
        heartbeat_s=300,
        transitions_only=False,
        fail_on_expired_token=False,
    )
    return replace(request, **changes)


def dataset(**changes: Any) -> Dataset:
    """Return a dataset without batches, with changes."""
    empty = Dataset(
        dataset_id=DATASET_ID,
        display_name="",
        batches=0,
        open_batches=0,
        pending_batches=0,
        last_ended=None,
        counts=DocumentCounts(),
        updated_at=1_000,
    )
    return replace(empty, **changes)


def counts_of(documents: Iterable[Document]) -> DocumentCounts:
    """Return the counts of documents."""
    counts = DocumentCounts()
    for one in documents:
        counts = move_counts(counts, None, one)
    return counts


def creation(**changes: Any) -> Creation:
    """Return the call that created a batch, with changes."""
    return replace(Creation(fingerprint=b"\x00digest", documents=0, request_id=None), **changes)


def transition(**changes: Any) -> Transition:
    """Return the transition that creates a batch, with changes."""
    created = Transition(
        revision=1,
        kind=TransitionKind.CREATED,
        document=None,
        previous_state=None,
        previous_stage=None,
        event_at=None,
        committed_at=1_000,
        counts=DocumentCounts(),
        sealed=False,
        write_id=7,
    )
    return created._replace(**changes)


def register_documents(edit: BatchEdit, count: int, **changes: Any) -> list[Document]:
    """Register documents `doc-0`, `doc-1` … after those of the batch and return them."""
    first = edit.batch.counts.total
    for position in range(first, first + count):
        fresh = register(
            dataset_id=edit.batch.dataset_id,
            batch_id=edit.batch.batch_id,
            document_id=f"doc-{position}",
            position=position,
            display_name="",
            labels={},
            now=edit.now,
        )
        edit.register(replace(fresh, **changes))
    return [edit.added[f"doc-{position}"] for position in range(first, first + count)]


# Calls on a store.


def edit_of(tx: WriteTransaction, changed: Batch, *document_ids: str) -> BatchEdit:
    """Start to change a batch."""
    name = (changed.dataset_id, changed.batch_id)
    [edit] = tx.edit({name: Wanted(document_ids=document_ids)})
    return edit


async def create(
    store: Store,
    batch_id: str = BATCH_ID,
    *,
    documents: int = 0,
    sealed: bool = True,
    made_by: Creation | None = None,
    **changes: Any,
) -> Batch:
    """Create a batch with documents `doc-0`, `doc-1` … and return it."""

    def call(tx: WriteTransaction) -> Batch:
        fresh = batch(key=0, batch_id=batch_id, created_at=tx.now, updated_at=tx.now, **changes)
        edit = tx.new_batch(fresh, made_by or creation(documents=documents))
        edit.create()
        register_documents(edit, documents)
        if sealed:
            edit.seal()
        tx.save(edit)
        return edit.batch

    return await store.write(call, visible=ALL)


Move = Callable[[Document, int], Any]


async def move(store: Store, moved: Batch, *moves: tuple[int, Move]) -> Batch:
    """Run one call that moves documents, by their numbers, one move after the other."""

    def decide(edit: BatchEdit) -> Batch:
        for number, change in moves:
            before = edit.get_document(f"doc-{number}")
            edit.apply(before, change(before, edit.now))
        return edit.batch

    name = (moved.dataset_id, moved.batch_id)
    wanted = Wanted(document_ids={f"doc-{number}" for number, _ in moves})
    return await store.change(name, wanted, decide, visible=ALL)


def report_of(**fields: Any) -> Move:
    """Return the move of a report with these fields."""
    return lambda actual, now: apply_report(
        actual, Report(document_id=actual.document_id, **fields), now=now
    )


def started(actual: Document, now: int) -> Any:
    return start_attempt(actual, "wörker-1", now=now)


def counted(completed: int, total: int | None = None) -> Progress:
    return Progress(completed_segments=completed, total_segments=total)


async def get_batch(store: Store, batch_id: str = BATCH_ID, dataset_id: str = DATASET_ID) -> Batch:
    actual = await store.read(lambda tx: tx.find_batch(dataset_id, batch_id), visible=ALL)
    assert actual is not None
    return actual


async def get_dataset(store: Store, dataset_id: str = DATASET_ID) -> Dataset:
    actual = await store.read(lambda tx: tx.find_dataset(dataset_id), visible=ALL)
    assert actual is not None
    return actual


async def get_documents(store: Store, of: Batch, **query: Any) -> list[Document]:
    return await store.read(lambda tx: list(tx.iterate_documents(of, **query)), visible=ALL)


async def get_log(store: Store, of: Batch, after_revision: int = 0) -> list[Transition]:
    return await store.read(
        lambda tx: list(tx.iterate_transitions(of, after_revision=after_revision)), visible=ALL
    )


async def get_progress(store: Store, of: Batch, after_seq: int) -> list[tuple[int, Document]]:
    return await store.read(
        lambda tx: list(tx.iterate_progress(of, after_seq=after_seq)), visible=ALL
    )
