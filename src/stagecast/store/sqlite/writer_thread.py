"""The writer thread: group commit of waiting calls, with one flush to disk per transaction.

While a commit is flushed, or another process writes, calls queue up; the next transaction runs them
all, and what they change is written together.
A refused call has changed nothing, so the others commit without it.
If a call fails in the middle, the group is rolled back and each call runs again by itself, so that
only the failing one fails.
Writers of several processes alternate: after a commit, a process leaves the lock free for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from stagecast.errors import StagecastError, StoreBusy
from stagecast.store.protocol import Commits, Encoder
from stagecast.store.sqlite.calls import CallQueue, WaitingCall
from stagecast.store.sqlite.changes import random_number
from stagecast.store.sqlite.connection import (
    RETRY_AFTER_S,
    Connection,
    DriverError,
    begin_to_write,
    forget_pages,
    is_damage,
    translate,
)
from stagecast.store.sqlite.file_guard import OpenFiles
from stagecast.store.sqlite.known_batches import KnownBatches
from stagecast.store.sqlite.schema import OpenSchema
from stagecast.store.sqlite.write_transaction import SqliteWriteTransaction
from stagecast.threads import call_on_loop, settle

T = TypeVar("T")

_MAX_GROUP = 256  # calls in one transaction
# The time that the lock is left to other writers: longer than the pause between their attempts.
_GAP_S = 0.002
_OTHER_WRITERS_S = 1.0  # for how long a process counts as a writer after a commit

Call = Callable[[SqliteWriteTransaction], T]

_Request = WaitingCall[Call[Any]]


@dataclass(frozen=True, slots=True)
class _Answered:
    request: _Request
    result: Any = None
    error: Exception | None = None


class Writer(threading.Thread):
    """Runs calls in transactions of its own connection and answers on the event loop.

    Args:
        connection: used by this thread only, until it has ended.
        clock: microseconds since the epoch.
        encoder: encodes documents and transitions when they are written.
        on_commit: called on the loop with what a transaction changed, before the calls are
            answered.
        on_foreign_commit: called on the loop if another process has written, after
            `check_foreign_commits` and before each commit.
        on_fault: called on this thread with the fault that made a transaction fail.
        files: checked before each commit.
        schema: checked before each group of calls.

    Attributes:
        server_epoch: the random number of this server; another one after the file was overwritten.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], int],
        encoder: Encoder,
        on_commit: Callable[[Commits], None],
        on_foreign_commit: Callable[[], None],
        on_fault: Callable[[Exception], None],
        files: OpenFiles,
        schema: OpenSchema,
    ) -> None:
        super().__init__(name="stagecast-writer", daemon=True)
        self._connection = connection
        self._clock = clock
        self._encoder = encoder
        self._on_commit = on_commit
        self._on_foreign_commit = on_foreign_commit
        self._on_fault = on_fault
        self._files = files
        self._schema = schema
        self._calls: CallQueue[Call[Any]] = CallQueue()
        self._loop = asyncio.get_running_loop()
        self._data_version = self._read_data_version()
        self._known = KnownBatches(self._data_version)
        self.server_epoch = random_number()
        self._others_until_s = 0.0
        self._gap_until_s = 0.0
        self._failed = False
        self._fault = ""

    async def submit(self, call: Call[T]) -> T:
        """Queue a call and wait for its commit; cancelling removes it if it was not begun.

        Raises:
            StoreBusy: the store is closed, or cannot be written now.
        """
        answer: T = await self._calls.submit(call)
        return answer

    async def probe(self) -> None:
        """Take and release the write lock; after a failure, also make a test commit.

        It also migrates an older copy that was written into the file, so that no call waits for
        that.
        """
        await self.submit(self._touch_file)

    def check_foreign_commits(self) -> None:
        """Check for commits of other processes as soon as no commit is running."""
        self._calls.wake()

    def stop(self) -> None:
        """End the thread once all queued calls are answered."""
        self._calls.close()

    def run(self) -> None:
        """Commit group after group until stopped."""
        while not self._calls.is_finished:
            self._run_group()

    def _run_group(self) -> None:
        """Wait for calls, and commit and answer them; nothing of them is kept meanwhile."""
        group = self._take(_MAX_GROUP)
        self._poll_foreign_commits()
        if not group:
            return
        answered, commits = self._commit(group)
        if self._failed:
            # Refuse all queued calls: each group would wait for the same lock while its callers
            # time out. Calls made after the first answer are not refused, since the fault may be
            # over by then.
            answered += map(self._refuse, self._take(len(self._calls), timeout_s=0))
        self._answer(answered, commits)

    def _take(self, max_calls: int, *, timeout_s: float | None = None) -> list[_Request]:
        """Dequeue calls, without those whose callers were cancelled."""
        requests = self._calls.take(max_calls, timeout_s=timeout_s)
        return [request for request in requests if not request.is_abandoned]

    def _commit(
        self, group: list[_Request], *, max_calls: int = _MAX_GROUP
    ) -> tuple[list[_Answered], list[Commits]]:
        try:
            with self._transaction(group, max_calls) as tx:
                answered = [_run(request, tx) for request in group]
                tx.flush()
        # Any error of a call is raised to its caller; the thread must survive.
        except Exception as error:
            return self._commit_apart(group, error)
        self._failed = False
        return answered, [tx.commits]

    def _commit_apart(
        self, group: list[_Request], error: Exception
    ) -> tuple[list[_Answered], list[Commits]]:
        busy = isinstance(translate(error), StoreBusy)
        if busy:
            self._failed, self._fault = True, str(translate(error))
            self._on_fault(error)
            if is_damage(error):
                forget_pages(self._connection)
        if busy or len(group) == 1:
            # One error object each: raising one adds to its traceback.
            return [_Answered(request, error=translate(error)) for request in group], []
        alone = [self._commit([request], max_calls=1) for request in group]
        return [one for some, _ in alone for one in some], [
            one for _, some in alone for one in some
        ]

    @contextlib.contextmanager
    def _transaction(
        self, group: list[_Request], max_calls: int
    ) -> Iterator[SqliteWriteTransaction]:
        """Begin a transaction for a group, to which calls that came meanwhile are added."""
        if self._connection.in_transaction:  # the rollback of the last one failed
            self._connection.execute("ROLLBACK")
        time.sleep(max(0.0, self._gap_until_s - time.monotonic()))
        begin_to_write(self._connection, meanwhile=self._poll_foreign_commits)
        try:
            # Those that came while another process held the lock.
            group += self._take(max_calls - len(group), timeout_s=0)
            self._poll_foreign_commits()  # what is taken may be a wake-up to do this
            if any(request.call == self._touch_file for request in group):
                self._schema.migrate()
            if self._schema.check():  # perhaps by a copy, whose counters this process goes on from
                self.server_epoch = random_number()
            with contextlib.closing(
                SqliteWriteTransaction(
                    self._connection,
                    self._encoder,
                    now=self._clock(),
                    server_epoch=self.server_epoch,
                    known=self._take_known(),
                )
            ) as tx:
                yield tx
            self._files.check()
            self._connection.execute("COMMIT")
            if not tx.known.is_full:
                self._known = tx.known
            now_s = time.monotonic()
            self._gap_until_s = now_s + _GAP_S if now_s < self._others_until_s else 0.0
        except BaseException:
            # SQLite rolls back by itself on a full disk.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _take_known(self) -> KnownBatches:
        """Return what is known of batches, which only a COMMIT puts back."""
        version = self._read_data_version()
        known, self._known = self._known, KnownBatches(version)
        return known if known.data_version == version else KnownBatches(version)

    def _refuse(self, request: _Request) -> _Answered:
        """Answer with the fault of the calls before it."""
        return _Answered(request, error=StoreBusy(self._fault, retry_after_s=RETRY_AFTER_S))

    def _touch_file(self, _tx: SqliteWriteTransaction) -> None:
        if self._failed:
            # Rewrites the file header unchanged, so that the commit has to reach the disk.
            [(oldest_writer,)] = self._connection.execute("PRAGMA user_version")
            self._connection.execute(f"PRAGMA user_version = {oldest_writer}")

    def _answer(self, answered: list[_Answered], commits: list[Commits]) -> None:
        call_on_loop(self._loop, lambda: self._deliver(answered, commits))

    def _deliver(self, answered: list[_Answered], commits: list[Commits]) -> None:
        commits.reverse()
        while commits:  # nothing here keeps them: they may have all documents of a large batch
            if changed := commits.pop():
                self._on_commit(changed)
        for answer in answered:
            settle(answer.request.answer, answer.result, answer.error)

    def _poll_foreign_commits(self) -> None:
        try:
            version = self._read_data_version()
        except DriverError:  # a fault of the file; the next poll may succeed
            return
        if version != self._data_version:
            self._data_version = version
            self._others_until_s = time.monotonic() + _OTHER_WRITERS_S
            call_on_loop(self._loop, self._on_foreign_commit)

    def _read_data_version(self) -> int:
        """Return a number that changes when another connection has committed."""
        [(version,)] = self._connection.execute("PRAGMA data_version")
        return int(version)


def _run(request: _Request, tx: SqliteWriteTransaction) -> _Answered:
    try:
        return _Answered(request, result=request.call(tx))
    except StagecastError as error:
        return _Answered(request, error=error)
