"""A small ingestion worker: the example of how a pipeline reports to stagecast.

`stages` and `text` are the pipeline's own work; of stagecast this needs only a batch of the
`Reporter`, which sends reports and heartbeats in the background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, Protocol

from stagecast.client.api import BatchReporter, DocumentReporter, NewDocument
from stagecast.demo import stages
from stagecast.demo.incidents import Incidents
from stagecast.demo.stages import IngestionError, scratch
from stagecast.failures import reason_of

_CHUNKS_A_CALL = 500  # of the index


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file to ingest, with its id and name."""

    document_id: str
    display_name: str
    path: Path

    @property
    def document(self) -> NewDocument:
        """The document to register."""
        return NewDocument(document_id=self.document_id, display_name=self.display_name)


class Index(Protocol):
    """Stores chunks."""

    def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        """Put chunks into the index, numbered from `first`, or raise `IngestionError`."""


class Interrupted(Exception):
    """The program is about to end."""


class Worker:
    """Ingests documents of a batch, several at a time; each ends as SUCCEEDED or FAILED.

    Args:
        sources: the files.
        index: where their chunks go.
        delay_s: a pause after each step, so that a viewer can follow.
        incidents: what is staged, if anything.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        index: Index,
        *,
        delay_s: float = 0.0,
        incidents: Incidents | None = None,
    ) -> None:
        self._paths = {source.document_id: source.path for source in sources}
        self._index = index
        self._delay_s = delay_s
        self._incidents = incidents
        self._interrupted = Event()

    def ingest_all(self, batch: BatchReporter, *, threads: int = 16) -> None:
        """Ingest all documents that are pending.

        Raises:
            stagecast.StagecastError: reports cannot be delivered.
            Interrupted: see `interrupt`.
        """
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self.ingest, batch.pending()):
                pass

    def ingest(self, document: DocumentReporter) -> None:
        """Ingest a document, and report each stage when it begins.

        Raises:
            stagecast.StagecastError: reports cannot be delivered.
            Interrupted: see `interrupt`.
        """
        with document:
            try:
                self._process(document, self._paths[document.id])
            except IngestionError as error:
                document.fail(error.reason, str(error))
            except OSError as error:  # such as a full disk
                document.fail("TEMPORARY_FILE_ERROR", reason_of(error))

    def interrupt(self) -> None:
        """End all work soon, from another thread."""
        self._interrupted.set()

    def _process(self, document: DocumentReporter, path: Path) -> None:
        with scratch() as parsed, scratch() as cleaned, scratch() as chunks:
            document.parsing()
            stages.parse(path, parsed)
            self._pause()
            document.cleaning()
            stages.clean(parsed, cleaned)
            parsed.close()
            self._pause()
            document.splitting()
            total = stages.split(cleaned, chunks)
            cleaned.close()
            self._pause()
            document.indexing(total)
            if self._incidents:
                self._incidents.happen(document.id)
            self._put_into_index(document, chunks, total)

    def _put_into_index(self, document: DocumentReporter, chunks: IO[str], total: int) -> None:
        first = 1
        for some in self._some(chunks, total):
            self._index.add(document.id, first, some)
            first += len(some)
            document.progress(first - 1, total)
            self._pause()

    def _some(self, chunks: IO[str], total: int) -> Iterator[list[str]]:
        """Yield as many chunks at a time as move a progress bar, or as the index takes."""
        count = min(max(1, total // 10), _CHUNKS_A_CALL)
        while some := stages.next_chunks(chunks, count):
            yield some

    def _pause(self) -> None:
        if self._interrupted.wait(self._delay_s):
            raise Interrupted
