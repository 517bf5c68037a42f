"""The SQLite store: one writer thread and a few reader threads on a file in WAL mode."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from stagecast.errors import StartError, StoreBusy
from stagecast.model import BatchEdit, Visibility
from stagecast.paths import shown
from stagecast.store.protocol import (
    BatchName,
    Commits,
    Encoder,
    ReadTransaction,
    Wanted,
    WriteTransaction,
)
from stagecast.store.sqlite.calls import CallQueue
from stagecast.store.sqlite.changes import Prepared, prepare
from stagecast.store.sqlite.connection import (
    Connection,
    DriverError,
    check_soundness,
    forget_pages,
    is_damage,
    open_reader,
    open_writer,
    translate,
)
from stagecast.store.sqlite.file_guard import OpenFiles
from stagecast.store.sqlite.read_transaction import SqliteReadTransaction
from stagecast.store.sqlite.schema import OpenSchema, find_schema_fault, may_be_schema
from stagecast.store.sqlite.writer_thread import Writer
from stagecast.store.visibility import check_visible, restrict_read, restrict_write
from stagecast.threads import call_on_loop, is_cancelled, run_cancellable, run_for, run_in_daemon

T = TypeVar("T")

_log = logging.getLogger(__name__)

_READERS = 4  # threads; reads are short, and more threads would only contend for the GIL
# A reader waits only for the recovery of an index that a killed process has left incomplete.
_LOOP_BUSY_TIMEOUT_MS = 5
CLOSE_S = 5.0  # for running calls and for closing the file: its disk may hang


class OpenedFile:
    """A file that is open for the writer. Opening it blocks while its disk hangs.

    Args:
        path: the file; it is created if it does not exist.

    Raises:
        StartError: the file cannot be opened, is not a stagecast database, or is of a newer
            release.
    """

    def __init__(self, path: Path) -> None:
        self.connection = open_writer(path)
        self.path = path.absolute()
        self.files = OpenFiles(self.path)
        self.schema = OpenSchema(self.connection, path)


async def open_file(path: Path) -> OpenedFile:
    """Open a file on a daemon thread.

    Raises:
        StartError: see `OpenedFile`.
    """

    def open_unless_cancelled() -> OpenedFile:
        opened = OpenedFile(path)
        if is_cancelled():
            opened.connection.close()
        return opened

    return await run_cancellable(open_unless_cancelled, doing=f"opening {shown(path)}")


class SqliteStore:
    """A `Store` in one file, created on the event loop that uses it.

    Args:
        path: the file; it is created if it does not exist.
        clock: commit times, in microseconds since the epoch.
        encoder: encodes documents and transitions when they are written.
        on_commit: called on the loop with what a transaction changed.
        on_foreign_commit: called on the loop if another process has written, after
            `check_foreign_commits` and before each commit.
        on_fault: called on the loop with a fault of the file that made a call fail.
        opened: the file, if it is open already.

    Raises:
        StartError: see `OpenedFile`.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], int],
        encoder: Encoder,
        on_commit: Callable[[Commits], None],
        on_foreign_commit: Callable[[], None],
        on_fault: Callable[[Exception], None] = lambda _error: None,
        opened: OpenedFile | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._encoder = encoder
        self._report_fault = on_fault
        self._damaged = False
        self._check: asyncio.Task[None] | None = None  # of the whole file, after damage
        opened = opened or OpenedFile(path)
        self._connection, self._path, self._files = opened.connection, opened.path, opened.files
        self._writer = Writer(
            self._connection,
            clock=clock,
            encoder=encoder,
            on_commit=on_commit,
            on_foreign_commit=on_foreign_commit,
            on_fault=self._on_fault,
            files=self._files,
            schema=opened.schema,
        )
        self._local = threading.local()
        self._reader_connections: list[Connection] = []
        self._connection_of_loop = self._open_for_loop()
        self._fault_versions = itertools.count(-1, -1)
        self._changing_whole = asyncio.Lock()
        self._reads: CallQueue[Callable[[], Any]] = CallQueue()
        self._readers = [
            threading.Thread(target=self._run_reads, name=f"stagecast-reader-{n}", daemon=True)
            for n in range(_READERS)
        ]
        for thread in (self._writer, *self._readers):
            thread.start()

    async def write(self, call: Callable[[WriteTransaction], T], *, visible: Visibility) -> T:
        """Run a call in a write transaction."""
        return await self._writer.submit(
            lambda tx: tx.write(lambda tx: call(restrict_write(tx, visible)))
        )

    async def change(
        self,
        name: BatchName,
        wanted: Wanted,
        decide: Callable[[BatchEdit], T],
        *,
        visible: Visibility,
    ) -> T:
        """Change one batch."""
        check_visible(name, visible)
        if not wanted.states:
            return await self._writer.submit(lambda tx: tx.change(name, wanted, decide))
        # One at a time: each may have all records of a large batch, and occupy a reader.
        async with self._changing_whole:
            # The collector would walk through all these records again and again, and take as long
            # as they took to make. It resumes when none of them is left.
            gc.disable()
            try:
                return await self._change_whole(name, wanted, decide)
            finally:
                gc.enable()

    async def _change_whole(
        self, name: BatchName, wanted: Wanted, decide: Callable[[BatchEdit], T]
    ) -> T:
        """Decide before the call has the write lock, and again if the batch changed meanwhile.

        Reading and deciding is two thirds of the work: for 100,000 documents, others would wait
        for a second.
        """
        begin = partial(prepare, now=self._clock(), server_epoch=self._writer.server_epoch)
        prepared: list[Prepared[T]] = [
            await self._reads.submit(
                partial(self._query, lambda tx: begin(tx, name, wanted, decide))
            )
        ]
        return await self._writer.submit(
            lambda tx: tx.change(name, wanted, decide, prepared.pop() if prepared else None)
        )

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        """Run a query in a read transaction."""
        result: T = await self._reads.submit(
            partial(self._query, lambda tx: query(restrict_read(tx, visible)))
        )
        return result

    def version(self) -> int:
        """Return the version of the data."""
        try:
            [(version,)] = self._connection_of_loop.execute("PRAGMA data_version")
        except DriverError:
            return next(self._fault_versions)
        return int(version)

    def read_now(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        """Run a query on the connection of the event loop."""
        return self._query(lambda tx: query(restrict_read(tx, visible)))

    def check_foreign_commits(self) -> None:
        """Let the writer check; only its own connection tells other commits from its own."""
        self._writer.check_foreign_commits()

    async def probe(self) -> None:
        """Check whether the file can be written, and read by a reader thread.

        After damage was detected, also check the whole file, which takes about a second per
        gigabyte.
        """
        await self._writer.probe()
        await self._reads.submit(partial(self._query, lambda _: None))
        if self._damaged and self._check is None:
            self._damaged = False  # set again by damage that is detected meanwhile
            self._check = asyncio.create_task(self._reads.submit(self._check_soundness))
        if self._check is not None:
            # A probe that gives up leaves it to the next one: it may take minutes.
            await asyncio.wait((self._check,))
            check, self._check = self._check, None
            await check

    async def close(self) -> None:
        """Finish pending calls and close all connections, or abandon what takes too long.

        Abandoned calls were not acknowledged and end with the process: after that, the -wal file
        shows what was committed, as after a crash.
        """
        self._writer.stop()
        self._reads.close()
        closing = asyncio.create_task(run_in_daemon(self._close))
        await asyncio.wait((closing,), timeout=CLOSE_S)
        if closing.done():
            await closing
        else:
            closing.cancel()
            _log.error(
                "the store was not closed within %g s: %s; no acknowledged write is lost",
                CLOSE_S,
                " and ".join(self._find_running()) or "the file is still being closed",
            )

    def _close(self) -> None:
        for thread in (self._writer, *self._readers):
            thread.join()
        for connection in (*self._reader_connections, self._connection):
            connection.close()

    def _find_running(self) -> Iterator[str]:
        """Yield the calls that still wait for the disk."""
        if self._writer.is_alive():
            yield "a write has not ended"
        reads = sum(thread.is_alive() for thread in self._readers)
        if reads:
            yield f"{reads} of {_READERS} reads have not ended"

    def _run_reads(self) -> None:
        """Run one read after the other, until the queue is finished."""
        while not self._reads.is_finished:
            self._run_read()

    def _run_read(self) -> None:
        for waiting in self._reads.take(1):
            if not waiting.is_abandoned:
                call_on_loop(self._loop, run_for(waiting.answer, waiting.call))

    def _query(self, query: Callable[[SqliteReadTransaction], T]) -> T:
        try:
            return self._query_in_transaction(query)
        except DriverError as error:
            translated = self._explain(error)
            if translated is error:
                # An older copy may have been migrated since; a bug shows again.
                return self._query_in_transaction(query)
            self._on_fault(translated if may_be_schema(error) else error)
            if is_damage(error):
                forget_pages(self._connection_of_thread())
            raise translated from error

    def _explain(self, error: DriverError) -> Exception:
        """Return the error for the caller; a bug stays unchanged."""
        if not may_be_schema(error):
            return translate(error)
        return find_schema_fault(self._connection_of_thread(), self._path) or error

    def _query_in_transaction(self, query: Callable[[SqliteReadTransaction], T]) -> T:
        connection = self._connection_of_thread()
        connection.execute("BEGIN")
        tx = SqliteReadTransaction(connection, self._encoder)
        try:
            return query(tx)
        finally:
            tx.close()
            if connection.in_transaction:  # a fault may have ended it
                connection.execute("COMMIT")

    def _connection_of_thread(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_reader(self._path)
            try:
                self._files.check()  # the file may have been replaced
            except StoreBusy:
                connection.close()
                raise
            self._reader_connections.append(connection)
            self._local.connection = connection
        return connection

    def _open_for_loop(self) -> Connection:
        try:
            connection = self._connection_of_thread()
        except (DriverError, StoreBusy) as error:
            self._connection.close()
            raise StartError(f"cannot use {shown(self._path)}: {error}") from error
        connection.execute(f"PRAGMA busy_timeout = {_LOOP_BUSY_TIMEOUT_MS}")
        return connection

    def _check_soundness(self) -> None:
        try:
            check_soundness(self._path)
        except StoreBusy:
            self._damaged = True
            raise

    def _on_fault(self, error: Exception) -> None:
        """Report a fault that made a read or write fail."""
        if is_damage(error):
            self._damaged = True
        call_on_loop(self._loop, partial(self._report_fault, translate(error)))
