"""The store: one writing thread, a few reading ones, on one SQLite file in WAL mode."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stagecast.errors import StoreBusy
from stagecast.model import Visibility
from stagecast.store.protocol import Reading, Topic, Writing
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
from stagecast.store.sqlite.identity import OpenFiles
from stagecast.store.sqlite.reading import SqliteReading
from stagecast.store.sqlite.schema import OpenSchema, find_schema_fault, may_be_schema
from stagecast.store.sqlite.writer import Writer
from stagecast.store.visibility import restrict_read, restrict_write

T = TypeVar("T")

_READERS = 4  # threads; a read is short, and more would only wait for the interpreter's lock


class SqliteStore:
    """Keeps everything in one file. To be made on the event loop that uses it.

    Args:
        path: the file; it is created if it is not there.
        clock: microseconds since the epoch; the commit times.
        on_commit: called on the loop with what a transaction changed.
        on_foreign_commit: called on the loop within 50 ms after another process has written.
        on_fault: called on the loop with a fault that kept it from reading or writing.

    Raises:
        StartError: the file cannot be opened, is not stagecast's, or is of a newer release.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], int],
        on_commit: Callable[[set[Topic]], None],
        on_foreign_commit: Callable[[], None],
        on_fault: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell_fault = on_fault
        self._damaged = False
        self._connection = open_writer(path)
        self._path = path.absolute()
        self._files = OpenFiles(self._path)
        self._writer = Writer(
            self._connection,
            clock=clock,
            on_commit=on_commit,
            on_foreign_commit=on_foreign_commit,
            on_fault=self._on_fault,
            files=self._files,
            schema=OpenSchema(self._connection, path),
        )
        self._local = threading.local()
        self._reading: list[Connection] = []
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="stagecast-reader")
        self._writer.start()

    async def write(self, call: Callable[[Writing], T], *, visible: Visibility) -> T:
        """Run a call in a transaction and return its result after it is on disk."""
        return await self._writer.submit(lambda tx: call(restrict_write(tx, visible)))

    async def read(self, query: Callable[[Reading], T], *, visible: Visibility) -> T:
        """Run a query on a view of one moment."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self._query, lambda tx: query(restrict_read(tx, visible))
        )

    async def probe(self) -> None:
        """Find out whether the file can be written; after damage was met, also whether it is whole.

        Only then, since that takes time: a second or so for each gigabyte.
        """
        await self._writer.probe()
        if self._damaged:
            self._damaged = False
            await self._loop.run_in_executor(self._pool, self._check_soundness)

    async def close(self) -> None:
        """Finish what was asked for and close all connections."""
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._pool.shutdown)
        for connection in (*self._reading, self._connection):
            connection.close()

    def _query(self, query: Callable[[Reading], T]) -> T:
        try:
            return self._query_in_transaction(query)
        except DriverError as error:
            translated = self._explain(error)
            if translated is error:
                # An older copy may have been brought up to date since; a bug shows again.
                return self._query_in_transaction(query)
            self._on_fault(translated if may_be_schema(error) else error)
            if is_damage(error):
                forget_pages(self._connection_of_thread())
            raise translated from error

    def _explain(self, error: DriverError) -> Exception:
        """Return what to tell of an error, which stays what it is if it is a bug."""
        if not may_be_schema(error):
            return translate(error)
        return find_schema_fault(self._connection_of_thread(), self._path) or error

    def _query_in_transaction(self, query: Callable[[Reading], T]) -> T:
        connection = self._connection_of_thread()
        connection.execute("BEGIN")
        reading = SqliteReading(connection)
        try:
            return query(reading)
        finally:
            reading.close()
            if connection.in_transaction:  # a fault may have ended it
                connection.execute("COMMIT")

    def _connection_of_thread(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_reader(self._path)
            try:
                self._files.check()  # what it has opened may be another
            except StoreBusy:
                connection.close()
                raise
            self._reading.append(connection)
            self._local.connection = connection
        return connection

    def _check_soundness(self) -> None:
        try:
            check_soundness(self._path)
        except StoreBusy:
            self._damaged = True
            raise

    def _on_fault(self, error: Exception) -> None:
        """Take note of what kept a thread from reading or writing."""
        if is_damage(error):
            self._damaged = True
        with contextlib.suppress(RuntimeError):  # a loop that is closed has nobody left to tell
            self._loop.call_soon_threadsafe(self._tell_fault, translate(error))
