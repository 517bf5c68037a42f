"""The protocol of a store.

State, log and the batch's next revision are written in one transaction.
Readers see a consistent snapshot and never wait for the writer.
`tests/store/contract.py` is the contract suite of all stores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
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
    EncodedDocument,
    EncodedTransition,
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
"""The subject of a notification: a dataset by its id, or a batch as a `BatchName`."""

TimerKey = tuple[int, int, int]
"""The sort key of a timer, earliest due first."""

Head = tuple[int, ...]
"""The current version of a batch: its key, revision and progress_seq, and when it changed.

A copy that was restored may have the same numbers, but not the same time.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The documents of a batch that a change is about: those of some ids, or all in some states.

    `states` are for calls on a whole batch, which may have any number of documents.
    """

    document_ids: Collection[str] = ()
    states: Collection[DocumentState] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What one transaction changed in a batch.

    `before` has the revision and `write_id` of the transition before the first of `transitions`; a
    batch begins with (0, 0). `transitions` are all new ones, in order; none if only counters
    changed. `batch` is the batch after them.
    """

    before: tuple[int, int]
    batch: Batch
    transitions: Sequence[Transition]


Commits = Mapping[Topic, Committed | None]
"""The topics that a transaction changed; `None` for those deleted or named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetNews:
    """The datasets that changed, in their current state, and those removed, up to a change_seq."""

    change_seq: int
    changed: Sequence[Dataset]
    removed: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The lease of the stall detector; `holder` is the random number of a process, 0 for none.

    `renewals` increases while the holder lives. `reached_at` is the latest known time of its clock.
    """

    holder: int
    renewals: int
    reached_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IdleBatch:
    """An unsealed batch without open documents; `since` is the time of the last addition."""

    batch: Batch
    since: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryLimit:
    """Batches that ended by `ended_until` and were not reopened retain `keep` transitions.

    `keep` is at least 1: the last transition is always retained.
    """

    ended_until: int
    keep: int


class Encoder(Protocol):
    """Encodes what readers are sent, when it is written; a store keeps the bytes as they are.

    All pieces of a version are made alike: bytes of another version are not used.
    """

    @property
    def version(self) -> int:
        """The version of what the bytes contain, at least 1."""
        ...

    def identity(self, document: Document) -> bytes:
        """Return what never changes about a document."""
        ...

    def condition(self, document: Document) -> bytes:
        """Return all else that a transition of it shows, but for the next and ids of its batch."""
        ...

    def last_change(self, document: Document) -> bytes:
        """Return the revision and time of its last transition; in the log they are columns."""
        ...


class ReadTransaction(Protocol):
    """A consistent snapshot of the store."""

    def find_dataset(self, dataset_id: str) -> Dataset | None:
        """Return the dataset, if it exists."""
        ...

    def iterate_datasets(
        self, dataset_ids: Collection[str] | None, *, after: str = ""
    ) -> Iterator[Dataset]:
        """Yield those of the datasets that exist, or all, ordered by id."""
        ...

    def find_dataset_news(
        self, dataset_ids: Collection[str] | None, *, after_seq: int
    ) -> DatasetNews:
        """Return the changes of the datasets, or of all, since a change_seq.

        One sequence numbers the changes of all datasets in commit order.
        """
        ...

    def find_dataset_heads(self, dataset_ids: Collection[str] | None) -> Hashable:
        """Return a value that is another one after every change of one of the datasets.

        Of all datasets if `None`; cheap also then.
        """
        ...

    def find_batch(self, dataset_id: str, batch_id: str) -> Batch | None:
        """Return the batch, if it exists."""
        ...

    def find_heads(self, names: Collection[BatchName]) -> dict[BatchName, Head]:
        """Return the heads of those of the batches that exist."""
        ...

    def iterate_batches(
        self,
        dataset_id: str | None,
        *,
        states: Collection[BatchState] = (),
        before_key: int | None = None,
    ) -> Iterator[Batch]:
        """Yield batches of a dataset, or of all, newest first; an empty filter matches all."""
        ...

    def find_documents(self, batch: Batch, document_ids: Collection[str]) -> dict[str, Document]:
        """Return those of the documents that exist, by id."""
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
        """Yield documents in the order of registration; an empty filter matches all.

        With `as_of` they are in their state at that revision, without those registered later: a
        list that is read in pages stays consistent while the log is retained.

        Raises:
            StoreBusy: the log of that revision is no longer retained; start again without it.
        """
        ...

    def iterate_transitions(
        self, batch: Batch, *, after_revision: int, document: Document | None = None
    ) -> Iterator[Transition]:
        """Yield the log of the batch, or of one of its documents, after a revision."""
        ...

    def find_encoded_document(self, batch: Batch, document_id: str) -> EncodedDocument | None:
        """Return a document as it is sent, if it exists."""
        ...

    def iterate_encoded_documents(
        self,
        batch: Batch,
        *,
        after_position: int = -1,
        states: Collection[DocumentState] = (),
        stages: Collection[Stage] = (),
        as_of: int | None = None,
    ) -> Iterator[EncodedDocument]:
        """Yield what `iterate_documents` yields, as it is sent.

        Raises:
            StoreBusy: the log of that revision is no longer retained; start again without it.
        """
        ...

    def iterate_encoded_transitions(
        self, batch: Batch, *, after_revision: int, document: EncodedDocument | None = None
    ) -> Iterator[EncodedTransition]:
        """Yield what `iterate_transitions` yields, as it is sent."""
        ...

    def get_page_secret(self) -> bytes:
        """Return the secret of page tokens: one per store, the same for every server."""
        ...

    def find_write_id(self, batch: Batch, revision: int) -> int | None:
        """Return the `write_id` of a transition, if the log still has it."""
        ...

    def find_progress_seq(self, batch: Batch, server_epoch: int) -> int:
        """Return the last progress_seq assigned by the server with this epoch, or 0."""
        ...

    def iterate_progress(self, batch: Batch, *, after_seq: int) -> Iterator[tuple[int, Document]]:
        """Yield documents whose counters changed without a transition, with their progress_seq.

        Ordered by progress_seq, after the given one.
        """
        ...

    def find_silent(
        self, batch: Batch, document_ids: Collection[str], *, before: int
    ) -> Collection[str]:
        """Return those of the documents for which a sign of life has an effect.

        They are RUNNING, stalled or with a stall timeout, and last heard from before a time.
        """
        ...

    def find_next_due(self) -> int | None:
        """Return when the next timer, or batch to seal, is due; `None` if there is none."""
        ...

    def find_idle(self, until: int, limit: int) -> Sequence[IdleBatch]:
        """Return batches that are due to be sealed at a time, earliest first.

        They are not sealed, have no open document, and their `seal_after` has passed.
        """
        ...

    def find_lease(self) -> Lease:
        """Return the lease of the stall detector."""
        ...

    def has_excess(self, limit: HistoryLimit) -> bool:
        """Return whether any batch has more history than a limit allows."""
        ...

    def find_ended(self, until: int, limit: int) -> Sequence[Batch]:
        """Return batches that ended at or before a time, earliest first."""
        ...

    def list_keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first, including revoked and expired ones."""
        ...

    def get_keys_version(self) -> Hashable:
        """Return a value that is another one after every change of the keys, or of the file."""
        ...


class WriteTransaction(ReadTransaction, Protocol):
    """A transaction that can write; its reads include its own writes."""

    now: int
    """The commit time, in microseconds."""

    def get_creation(self, batch: Batch) -> Creation:
        """Return the call that created the batch."""
        ...

    def find_batch_by_request(self, dataset_id: str, request_id: str) -> Batch | None:
        """Return the batch that was created with this request id."""
        ...

    def new_batch(self, batch: Batch, creation: Creation) -> BatchEdit:
        """Insert a new batch, which assigns its `key`, and its dataset if it does not exist."""
        ...

    def name_dataset(self, dataset_id: str, display_name: str) -> None:
        """Set the display name of an existing dataset."""
        ...

    def edit(self, wanted: Mapping[BatchName, Wanted]) -> Sequence[BatchEdit]:
        """Start to change those of the batches that exist, ordered by key.

        Each edit has the wanted documents of its batch.
        """
        ...

    def save(self, *edits: BatchEdit) -> None:
        """Write rows, log and counts, and set the timers of changed documents.

        Rows are written in one order: batches by key, then datasets by id.

        The timers of documents with a change or sign of life restart, as do those of PENDING
        documents that were registered, retried or resumed, and that of a batch for more documents.
        """
        ...

    def find_timers(
        self, *, until: int | None, after: TimerKey | None, limit: int
    ) -> Sequence[Timer]:
        """Return timers ordered by key: those due at a time, or all, after a key."""
        ...

    def set_timer(self, timer: Timer, *, heard_at: int, due_at: int | None) -> None:
        """Set when the silence of a document began, and when to check it; `None` is never."""
        ...

    def set_idle_since(self, batch: Batch, since: int) -> None:
        """Set since when nothing was added to a batch."""
        ...

    def cap_idle_since(self, now: int) -> None:
        """Set an idle time in the future to now: the clock was set back."""
        ...

    def save_lease(self, lease: Lease) -> None:
        """Store the lease of the stall detector."""
        ...

    def add_key(self, key: NewKey) -> ApiKey:
        """Add a key; its prefix and digest are unique."""
        ...

    def revoke_key(self, key: ApiKey) -> None:
        """Revoke a key; one that is revoked already stays unchanged."""
        ...

    def delete_batches(self, batches: Collection[Batch]) -> None:
        """Delete batches; their rows are swept later."""
        ...

    def delete_dataset(self, dataset: Dataset) -> None:
        """Delete a dataset with all its batches; their rows are swept later."""
        ...

    def trim(self, limit: HistoryLimit, max_rows: int) -> int:
        """Delete up to `max_rows` of the oldest transitions beyond a limit; return how many."""
        ...

    def encode(self, max_rows: int) -> bool:
        """Encode up to `max_rows` rows that another release wrote; False if there were none."""
        ...

    def sweep(self, max_rows: int) -> bool:
        """Delete up to `max_rows` rows of what was deleted; False if there were none."""
        ...


class Store(Protocol):
    """A transactional store.

    Each transaction is restricted to the datasets in `visible`: it finds no others and creates
    nothing in them; see `visibility`.
    """

    async def write(self, call: Callable[[WriteTransaction], T], *, visible: Visibility) -> T:
        """Run a call in a transaction and return its result once it is on disk.

        Calls run one after the other, many in one transaction. A call that raises a
        `StagecastError` must not have written yet; other calls are not affected. A call may be run
        again and must have no other side effects.

        Raises:
            StoreBusy: the store cannot be written now; nothing of the call was written.
        """
        ...

    async def change(
        self,
        name: BatchName,
        wanted: Wanted,
        decide: Callable[[BatchEdit], T],
        *,
        visible: Visibility,
    ) -> T:
        """Read one batch and the wanted documents, decide, save, and return the decision.

        `decide` is a pure function: it sees nothing but the edit, changes nothing else, and may be
        run again on newer documents. It runs among the calls of `write` and gives the same
        promises; many such calls are saved together.

        Raises:
            BatchNotFound: there is no such batch.
            StoreBusy: the store cannot be written now; nothing of the call was written.
        """
        ...

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        """Run a query on a consistent snapshot.

        Raises:
            StoreBusy: the store cannot be read now.
        """
        ...

    def version(self) -> int:
        """Return a number that changes with each commit of any process, and during a fault.

        What was read after it stays current until it changes. It takes some microseconds, on the
        event loop only, and hardly ever waits. It never reads the disk while nobody commits.
        """
        ...

    def read_now(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        """Run a query like `read`, but on the event loop: for a few rows that are in memory.

        Those are rows that somebody has just written, as a new `version` shows: the disk has
        answered then, too.

        Raises:
            StoreBusy: the store cannot be read now.
        """
        ...

    def check_foreign_commits(self) -> None:
        """Call `on_foreign_commit` soon, if another process has committed since the last check."""
        ...

    async def probe(self) -> None:
        """Check whether the store can be written.

        Raises:
            StoreBusy: it cannot.
        """
        ...

    async def close(self) -> None:
        """Finish pending calls and release all resources."""
        ...
