"""What a store must do, whatever it is made of.

State, log and the batch's next revision are one transaction.
Readers see one moment and never wait for the writer.
`tests/store/contract.py` holds what every store must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from stagecast.model import (
    ApiKey,
    Batch,
    BatchEdit,
    BatchState,
    Creation,
    Dataset,
    Document,
    DocumentState,
    NewKey,
    Stage,
    Timer,
    Transition,
    Visibility,
)

T = TypeVar("T")

BatchName = tuple[str, str]
"""The ids of a dataset and of one of its batches."""

Topic = tuple[str, ...]
"""What may change: a dataset by its id, or one of its batches as a `BatchName`."""

TimerKey = tuple[int, int, int]
"""Where a timer stands among all: those that are due first are the first."""

Head = tuple[int, ...]
"""How far a batch is: its key, its revision, its progress_seq."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetNews:
    """Datasets that changed up to a change_seq, as they are now, and those that were removed."""

    change_seq: int
    changed: Sequence[Dataset]
    removed: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """Which process looks after what is due; `holder` is its random number, 0 for nobody.

    `renewals` goes up while the holder lives. `reached_at` is the latest time that its clock is
    known to have shown.
    """

    holder: int
    renewals: int
    reached_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IdleBatch:
    """A batch that nobody seems to go on with; `since` is when something was added last."""

    batch: Batch
    since: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryLimit:
    """Of batches that had ended at a time and still are, the last `keep` transitions stay.

    `keep` is at least 1: what a batch was last is always known.
    """

    ended_until: int
    keep: int


class ReadTransaction(Protocol):
    """A view of one moment."""

    def find_dataset(self, dataset_id: str) -> Dataset | None:
        """Return the dataset, if it is there."""
        ...

    def iterate_datasets(
        self, dataset_ids: Collection[str] | None, *, after: str = ""
    ) -> Iterator[Dataset]:
        """Yield those of the datasets that are there, or all, in the order of their ids."""
        ...

    def find_dataset_news(
        self, dataset_ids: Collection[str] | None, *, after_seq: int
    ) -> DatasetNews:
        """Return what became of the datasets, or of all, since a change_seq.

        Serials number the changes of all datasets, as they are committed.
        """
        ...

    def find_batch(self, dataset_id: str, batch_id: str) -> Batch | None:
        """Return the batch, if it is there."""
        ...

    def find_heads(self, names: Collection[BatchName]) -> dict[BatchName, Head]:
        """Return how far those of the batches are that are there."""
        ...

    def iterate_batches(
        self,
        dataset_id: str | None,
        *,
        states: Collection[BatchState] = (),
        before_key: int | None = None,
    ) -> Iterator[Batch]:
        """Yield batches of a dataset, or of all, newest first; an empty filter lets all through."""
        ...

    def find_documents(self, batch: Batch, document_ids: Collection[str]) -> dict[str, Document]:
        """Return those of the documents that are there, by id."""
        ...

    def iterate_documents(
        self,
        batch: Batch,
        *,
        after_position: int = -1,
        states: Collection[DocumentState] = (),
        stages: Collection[Stage] = (),
        as_of: int | None = None,
    ) -> Iterator[Document]:
        """Yield documents in the order of registration; an empty filter lets all through.

        With `as_of` they are as they were at that revision, those that joined later left out; so a
        list that is read in pieces is still of one moment, for as long as the log is kept.

        Raises:
            StoreBusy: the log that tells what a document was then was let go; ask again for today.
        """
        ...

    def iterate_transitions(
        self, batch: Batch, *, after_revision: int, document: Document | None = None
    ) -> Iterator[Transition]:
        """Yield the log of the batch, or of one of its documents, after a revision."""
        ...

    def get_page_secret(self) -> bytes:
        """Return the secret of page tokens: the same on every server, also after a restart."""
        ...

    def find_write_id(self, batch: Batch, revision: int) -> int | None:
        """Return the call that made a transition, if the log still has it."""
        ...

    def find_progress_seq(self, batch: Batch, server_epoch: int) -> int:
        """Return the last progress_seq given by the server with this epoch, or 0."""
        ...

    def iterate_progress(self, batch: Batch, *, after_seq: int) -> Iterator[tuple[int, Document]]:
        """Yield documents whose counters changed without a transition, with their progress_seq.

        In the order of progress_seq, from the next one on.
        """
        ...

    def find_silent(
        self, batch: Batch, document_ids: Collection[str], *, before: int
    ) -> Collection[str]:
        """Return those of the documents that want a sign of life.

        They are RUNNING, and stalled or would stall, and were last heard from before a time.
        """
        ...

    def has_due(self, until: int) -> bool:
        """Tell whether a timer, or a batch to seal, is due at a time."""
        ...

    def find_idle(self, until: int, limit: int) -> Sequence[IdleBatch]:
        """Return batches that are to be sealed at a time, those first that are due first.

        They are not sealed, have no open document, and have waited for their `seal_after`.
        """
        ...

    def find_lease(self) -> Lease:
        """Return who looks after what is due."""
        ...

    def has_excess(self, limit: HistoryLimit) -> bool:
        """Tell whether a batch has more history than a limit lets it keep."""
        ...

    def find_ended(self, until: int, limit: int) -> Sequence[Batch]:
        """Return batches that had ended at a time and still are, those that ended first."""
        ...

    def list_keys(self) -> Sequence[ApiKey]:
        """Return all keys, the oldest first; also those that were revoked or have expired."""
        ...

    def get_keys_version(self) -> int:
        """Return a number that changes with every change of a key."""
        ...


class WriteTransaction(ReadTransaction, Protocol):
    """A transaction that may also write; what it reads includes what it has written."""

    now: int
    """The commit time, in microseconds."""

    def get_creation(self, batch: Batch) -> Creation:
        """Return what is known of the call that created the batch."""
        ...

    def find_batch_by_request(self, dataset_id: str, request_id: str) -> Batch | None:
        """Return the batch that was created with this request id."""
        ...

    def new_batch(self, batch: Batch, creation: Creation) -> BatchEdit:
        """Make the row of a new batch, which gives it its `key`; and its dataset's, if need be."""
        ...

    def edit(self, batch: Batch) -> BatchEdit:
        """Begin to change a batch that is there."""
        ...

    def save(self, edit: BatchEdit) -> None:
        """Write rows, log and counts, and set the timers of what changed.

        The silence of what changed or was heard begins anew, and so does the wait of a PENDING
        document that was registered, retried or resumed, and that of a batch for more documents.
        """
        ...

    def find_timers(
        self, *, until: int | None, after: TimerKey | None, limit: int
    ) -> Sequence[Timer]:
        """Return timers by their places: those that are due at a time, or all, behind a place."""
        ...

    def set_timer(self, timer: Timer, *, heard_at: int, due_at: int | None) -> None:
        """Say when the silence of a document began, and when to look at it, if ever."""
        ...

    def set_idle_since(self, batch: Batch, since: int) -> None:
        """Say since when nothing was added to a batch."""
        ...

    def cap_idle_since(self, now: int) -> None:
        """Let batches that wait since a time to come wait since now: the clock was set back."""
        ...

    def save_lease(self, lease: Lease) -> None:
        """Say who looks after what is due."""
        ...

    def add_key(self, key: NewKey) -> ApiKey:
        """Keep a key; its prefix and digest are those of no other."""
        ...

    def revoke_key(self, key: ApiKey) -> None:
        """Let a key open nothing any more; one that was revoked before stays as it is."""
        ...

    def delete_batch(self, batch: Batch) -> None:
        """Make a batch vanish; its rows are swept later."""
        ...

    def delete_dataset(self, dataset: Dataset) -> None:
        """Make a dataset vanish with all its batches; their rows are swept later."""
        ...

    def trim(self, limit: HistoryLimit, max_rows: int) -> int:
        """Let go of the oldest transitions beyond a limit, some at a time, and return how many."""
        ...

    def sweep(self, max_rows: int) -> bool:
        """Delete some rows of what has vanished; False if there was nothing to delete."""
        ...


class Store(Protocol):
    """Where everything is kept.

    Each transaction says which datasets exist for it: those that a caller may see, or all. It finds
    no others and makes nothing in them; see `visibility`.
    """

    async def write(self, call: Callable[[WriteTransaction], T], *, visible: Visibility) -> T:
        """Run a call in a transaction and return its result after it is on disk.

        Calls run one after the other, many in one transaction. One that raises a `StagecastError`
        must not have written yet; its neighbours do not notice. A call may be run again and must
        have no other effects.

        Raises:
            StoreBusy: the store cannot be written now; nothing of the call was.
        """
        ...

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        """Run a query on a view of one moment.

        Raises:
            StoreBusy: the store cannot be read now.
        """
        ...

    async def probe(self) -> None:
        """Find out whether the store can be written.

        Raises:
            StoreBusy: it cannot.
        """
        ...

    async def close(self) -> None:
        """Finish what was asked for and let go of everything."""
        ...
