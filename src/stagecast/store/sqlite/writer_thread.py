"""The one thread that writes: it gathers what waits into one transaction and one flush to disk.

Writers of several processes take turns: who has just written leaves the lock alone for a moment.
While a commit is being flushed, calls queue up; the next transaction takes them all.
A call that is refused has written nothing, so the others commit without it.
If a call breaks in the middle, everything is rolled back and each call is run again by itself, so
that only the broken one fails.
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
from stagecast.store.protocol import Topic, WriteTransaction
from stagecast.store.sqlite.calls import CallQueue, WaitingCall
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
from stagecast.store.sqlite.schema import OpenSchema
from stagecast.store.sqlite.write_transaction import SqliteWriteTransaction, random_number
from stagecast.threads import call_on_loop, settle

T = TypeVar("T")

_GROUP = 256  # calls in one transaction at most
_CHECK_EVERY_S = 0.02  # for commits of other processes
# While others write as well, the lock is left to them for longer than the pause in which they ask.
_GAP_S = 0.002
_OTHER_WRITERS_S = 1.0  # for how long they are remembered

_Request = WaitingCall[Callable[[WriteTransaction], Any]]


@dataclass(frozen=True, slots=True)
class _Answered:
    request: _Request
    result: Any = None
    error: Exception | None = None


class Writer(threading.Thread):
    """Runs calls in transactions of its own connection and answers on the event loop.

    Args:
        connection: used by this thread alone until it has ended.
        clock: microseconds since the epoch.
        on_commit: called on the loop with what a transaction changed, before the calls
            are answered.
        on_foreign_commit: called on the loop after another process has written.
        on_fault: called on this thread with what kept a transaction from being committed.
        files: looked at before each commit.
        schema: looked at before each group of calls.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], int],
        on_commit: Callable[[set[Topic]], None],
        on_foreign_commit: Callable[[], None],
        on_fault: Callable[[Exception], None],
        files: OpenFiles,
        schema: OpenSchema,
    ) -> None:
        super().__init__(name="stagecast-writer", daemon=True)
        self._connection = connection
        self._clock = clock
        self._on_commit = on_commit
        self._on_foreign_commit = on_foreign_commit
        self._on_fault = on_fault
        self._files = files
        self._schema = schema
        self._calls: CallQueue[Callable[[WriteTransaction], Any]] = CallQueue()
        self._loop = asyncio.get_running_loop()
        self._data_version = self._read_data_version()
        self._server_epoch = random_number()
        self._others_until_s = 0.0
        self._gap_until_s = 0.0
        self._failed = False
        self._fault = ""

    async def submit(self, call: Callable[[WriteTransaction], T]) -> T:
        """Queue a call and wait for its commit; to leave before it is begun undoes it.

        Raises:
            StoreBusy: the store is closed, or cannot be written now.
        """
        answer: T = await self._calls.ask(call)
        return answer

    async def probe(self) -> None:
        """Take the write lock and let go of it; after a failure, also prove it by a commit.

        It also brings an older copy up to date that was written into the file, so that calls are
        not kept waiting for that.
        """
        await self.submit(self._touch_file)

    def stop(self) -> None:
        """End the thread once everything queued has been answered."""
        self._calls.close()

    def run(self) -> None:
        """Commit group after group, until told to stop."""
        while not self._calls.is_over:
            group = self._take(_GROUP, timeout_s=_CHECK_EVERY_S)
            if group:
                answered, touched = self._commit(group)
                if self._failed:
                    # Each group would wait for the same lock, while its callers give up. Before the
                    # first is answered: who asks after that is not told of a fault that is over.
                    answered += map(self._refuse, self._take(len(self._calls), timeout_s=0))
                self._answer(answered, touched)
            self._look_for_foreign_commits()

    def _take(self, max_calls: int, *, timeout_s: float) -> list[_Request]:
        """Take calls whose callers have not left."""
        taken = self._calls.take(max_calls, timeout_s=timeout_s)
        return [request for request in taken if not request.is_abandoned]

    def _commit(self, group: list[_Request]) -> tuple[list[_Answered], set[Topic]]:
        try:
            with self._transaction() as tx:
                if any(request.call == self._touch_file for request in group):
                    self._schema.bring_up_to_date()
                self._schema.check()
                answered = [self._run(request, tx) for request in group]
        # Whatever a call raises is its caller's answer; the thread has to live on.
        except Exception as error:
            return self._commit_apart(group, error)
        self._failed = False
        return answered, tx.touched

    def _commit_apart(
        self, group: list[_Request], error: Exception
    ) -> tuple[list[_Answered], set[Topic]]:
        busy = isinstance(translate(error), StoreBusy)
        if busy:
            self._failed, self._fault = True, str(translate(error))
            self._on_fault(error)
            if is_damage(error):
                forget_pages(self._connection)
        if busy or len(group) == 1:
            # An error for each: whoever raises it adds to its traceback.
            return [_Answered(request, error=translate(error)) for request in group], set()
        answered: list[_Answered] = []
        touched: set[Topic] = set()
        for request in group:
            some, names = self._commit([request])
            answered += some
            touched |= names
        return answered, touched

    def _run(self, request: _Request, tx: SqliteWriteTransaction) -> _Answered:
        written = self._connection.total_changes
        try:
            return _Answered(request, result=request.call(tx))
        except StagecastError as error:
            if self._connection.total_changes != written:
                raise RuntimeError("a call was refused after it had written") from error
            return _Answered(request, error=error)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[SqliteWriteTransaction]:
        if self._connection.in_transaction:  # the last one could not even be rolled back
            self._connection.execute("ROLLBACK")
        time.sleep(max(0.0, self._gap_until_s - time.monotonic()))
        begin_to_write(self._connection, meanwhile=self._look_for_foreign_commits)
        try:
            with contextlib.closing(
                SqliteWriteTransaction(self._connection, self._clock(), self._server_epoch)
            ) as tx:
                yield tx
            self._files.check()
            self._connection.execute("COMMIT")
            now_s = time.monotonic()
            self._gap_until_s = now_s + _GAP_S if now_s < self._others_until_s else 0.0
        except BaseException:
            # A full disk may have rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _refuse(self, request: _Request) -> _Answered:
        """Tell what those before it were told."""
        return _Answered(request, error=StoreBusy(self._fault, retry_after_s=RETRY_AFTER_S))

    def _touch_file(self, _tx: WriteTransaction) -> None:
        if self._failed:
            # Writes the header of the file as it is: the commit has to reach the disk.
            self._connection.execute("PRAGMA user_version = 0")

    def _answer(self, answered: list[_Answered], touched: set[Topic]) -> None:
        call_on_loop(self._loop, lambda: self._deliver(answered, touched))

    def _deliver(self, answered: list[_Answered], touched: set[Topic]) -> None:
        if touched:
            self._on_commit(touched)
        for one in answered:
            settle(one.request.answer, one.result, one.error)

    def _look_for_foreign_commits(self) -> None:
        try:
            version = self._read_data_version()
        except DriverError:  # a fault of the file; the next look may succeed
            return
        if version != self._data_version:
            self._data_version = version
            self._others_until_s = time.monotonic() + _OTHER_WRITERS_S
            call_on_loop(self._loop, self._on_foreign_commit)

    def _read_data_version(self) -> int:
        """Return a number that changes when another connection has committed."""
        [(version,)] = self._connection.execute("PRAGMA data_version")
        return int(version)
