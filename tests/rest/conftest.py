"""The application on a real store, and a helper that ingests documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from stagecast import model
from stagecast.model import (
    ALL,
    Change,
    Document,
    DocumentError,
    Progress,
    Report,
    Stage,
)
from stagecast.notifier import Notifier
from stagecast.service.reports import Reports
from stagecast.service.submissions import Submissions
from stagecast.store import WriteTransaction
from stagecast.store.sqlite import SqliteStore
from tests.builders import ENCODER, edit_of, new_batch, new_document
from tests.clock import Clock
from tests.rest.apps import open_app


class Ingestion:
    """Creates one batch, and reports on it."""

    def __init__(self, store: SqliteStore, dataset_id: str, batch_id: str = "b-1") -> None:
        self.dataset_id = dataset_id
        self.batch_id = batch_id
        self._store = store
        self._submissions = Submissions(store)
        self._reports = Reports(store)

    @property
    def path(self) -> str:
        return f"/v1/datasets/{self.dataset_id}/documents/{self.batch_id}/indexing-status"

    async def submit(self, *document_ids: str, more: bool = False) -> None:
        await self._submissions.create_batch(
            new_batch(
                *document_ids,
                dataset_id=self.dataset_id,
                batch_id=self.batch_id,
                more_documents_follow=more,
            ),
            visible=ALL,
        )

    async def add(self, *document_ids: str) -> None:
        await self._submissions.add_documents(
            self.dataset_id, self.batch_id, [*map(new_document, document_ids)], visible=ALL
        )

    async def report(
        self,
        document_id: str,
        stage: Stage | None = None,
        *,
        progress: Progress | None = None,
        error: DocumentError | None = None,
    ) -> None:
        report = Report(document_id=document_id, stage=stage, progress=progress, error=error)
        await self._reports.report(self.dataset_id, self.batch_id, [report], visible=ALL)

    async def pause(self, document_id: str) -> None:
        await self._change(document_id, lambda document, now: model.pause(document, now=now))

    async def stop(self, document_id: str) -> None:
        await self._change(document_id, lambda document, now: model.stop(document, now=now))

    async def _change(self, document_id: str, rule: Callable[[Document, int], Change]) -> None:
        def change(tx: WriteTransaction) -> None:
            batch = tx.find_batch(self.dataset_id, self.batch_id)
            assert batch is not None
            edit = edit_of(tx, batch)
            [document] = tx.find_documents(batch, [document_id]).values()
            edit.apply(document, rule(document, edit.now))
            tx.save(edit)

        await self._store.write(change, visible=ALL)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "rest.db"


@pytest.fixture
def notifier() -> Notifier:
    return Notifier()


@pytest.fixture
async def store(db: Path, clock: Clock, notifier: Notifier) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    yield store
    await store.close()


@pytest.fixture
def ingestion(store: SqliteStore, dataset_id: str) -> Ingestion:
    return Ingestion(store, dataset_id)


@pytest.fixture
def begin(store: SqliteStore) -> Callable[..., Ingestion]:
    """Makes more ingestions: `begin(dataset_id, batch_id)`."""
    return lambda *names: Ingestion(store, *names)


@pytest.fixture
async def http(store: SqliteStore) -> AsyncIterator[httpx.AsyncClient]:
    app = open_app(store)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as client:
        yield client
