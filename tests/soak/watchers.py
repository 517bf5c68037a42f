"""Watchers that record what they receive, and resume every watch that breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client import details_of
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.conditions import until
from tests.validator import WatchRecord
from tests.watches.pipeline import Hangups, Pipeline, is_transient, retrying

_PAUSE_S = 0.02  # before a stream that was refused is opened again


@dataclass
class Record(WatchRecord):
    """What one watcher has received; `reasons` are those of its snapshots."""

    reasons: list[str] = field(default_factory=list)

    def receive(self, message: s.WatchBatchResponse) -> None:
        """Record a message."""
        if message.snapshot.complete:
            name = s.SnapshotReason.Name(message.snapshot.reason)
            self.reasons.append(name.removeprefix("SNAPSHOT_REASON_"))
        super().receive(message)


@dataclass
class Watchers:
    """All watchers of a run together.

    Attributes:
        errors: errors that streams ended with, by reason or else by status.
        drained: streams with messages that ended with `DRAINING` and have a token to resume.
        breaks: streams that broke and were resumed.
        max_open: the maximum of watches open at once.
    """

    hangups: Hangups
    errors: Counter[str] = field(default_factory=Counter)
    drained: int = 0
    breaks: int = 0
    max_open: int = 0
    _open: int = 0

    async def watch(self, pipeline: Pipeline, record: Record, **fields: Any) -> str:
        """Watch to the end; hang up at random, and resume after every break.

        Returns:
            the reason of the error at the end, empty for OK.
        """
        with self._counted():
            while True:
                before = record.messages
                try:
                    if await self._read(pipeline, record, fields):
                        return ""
                except aio.AioRpcError as error:
                    reason = self.note(error)
                    if reason == "DRAINING" and record.resume_token:
                        self.drained += record.messages > before
                    if not is_transient(error):
                        return reason
                    self.breaks += 1
                    await asyncio.sleep(_PAUSE_S)
                record.hang_up()

    def note(self, error: aio.AioRpcError) -> str:
        """Count the error of a stream, and return its reason."""
        reason = details_of(error).reason or error.code().name
        self.errors[reason] += 1
        return reason

    async def _read(self, pipeline: Pipeline, record: Record, fields: dict[str, Any]) -> bool:
        """Read one stream; return whether it came to its end."""
        known = {"resume_token": record.resume_token} if record.resume_token else {}
        call = pipeline.client.status.WatchBatch(
            pipeline.watch_request(**fields | known), wait_for_ready=True
        )
        messages_left = self.hangups.next()
        try:
            async for message in call:
                record.receive(message)
                if messages_left is not None and (messages_left := messages_left - 1) == 0:
                    self.hangups.done += 1
                    return False
        finally:
            call.cancel()
        return True

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._open += 1
        self.max_open = max(self.max_open, self._open)
        try:
            yield
        finally:
            self._open -= 1


class DatasetsView:
    """The datasets by id as `WatchDatasets` sends them; the watch reconnects when it breaks."""

    def __init__(self) -> None:
        self.known: dict[str, r.Dataset] = {}
        self.complete = False
        self.streams = 0

    async def watch(self, client: Any, *dataset_ids: str) -> None:
        """Watch some datasets, or all, until cancelled."""
        request = s.WatchDatasetsRequest(
            dataset_ids=dataset_ids, heartbeat_interval=Duration(seconds=300)
        )
        while True:
            call = client.status.WatchDatasets(request, wait_for_ready=True)
            self.known, self.complete = {}, False
            self.streams += 1
            try:
                async for message in call:
                    self._receive(message)
            except aio.AioRpcError as error:
                if not is_transient(error):
                    raise
            finally:
                call.cancel()
            await asyncio.sleep(_PAUSE_S)

    def batches(self, dataset_id: str) -> int | None:
        """Return the number of batches of a dataset, `None` if it does not exist."""
        return self.known[dataset_id].batches if dataset_id in self.known else None

    async def check(self, client: Any) -> None:
        """Wait until the view has all datasets as `GetDataset` returns them, and no others.

        Nothing may change meanwhile.
        """
        stored: dict[str, r.Dataset] = {}

        async def fetch() -> None:
            stored.update(await _stored_datasets(client))

        await until(lambda: self.complete and self.known == stored, meanwhile=fetch)

    def _receive(self, message: s.WatchDatasetsResponse) -> None:
        assert not (message.complete and self.complete), "a watch starts once"
        self.complete = self.complete or message.complete
        for dataset in message.datasets:
            self.known[dataset.dataset_id] = dataset
        for removed in message.removed_dataset_ids:
            self.known.pop(removed, None)


async def _stored_datasets(client: Any) -> dict[str, r.Dataset]:
    request_all = s.ListDatasetsRequest(page_size=1_000)
    listed = await retrying(lambda: client.status.ListDatasets(request_all))
    assert not listed.next_page_token
    stored = {}
    for dataset_id in [each.dataset_id for each in listed.datasets]:
        request = s.GetDatasetRequest(dataset_id=dataset_id)
        stored[dataset_id] = (await client.status.GetDataset(request)).dataset
    return stored
