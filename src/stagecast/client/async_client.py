"""`AsyncClient`: the RPCs of a server as coroutines, for event loops. `Client` is the manual."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Self, TypeVar

from grpc import aio

from stagecast.client import calls
from stagecast.client.arguments import Span
from stagecast.client.async_watch import AsyncDatasetsWatch, AsyncWatch
from stagecast.client.calls import Call, Page, method_of
from stagecast.client.channel import LazyChannel
from stagecast.client.endpoint import find_endpoint
from stagecast.client.enums import BatchState, DocumentState, Stage, WorkerOrder
from stagecast.client.errors import error_of
from stagecast.client.records import (
    Batch,
    ControlResult,
    Dataset,
    Document,
    DocumentReport,
    Labels,
    NewDocument,
    ReportResult,
    Transition,
)
from stagecast.client.resumption import BatchEvents, DatasetEvents, watch_request
from stagecast.client.retry import Retries
from stagecast.client.waiting import GIVE_UP_AFTER_S, Waiting

T = TypeVar("T")


class AsyncClient:
    """A server, for event loops: what `Client` is for threads, with the same names and `await`.

    It may be made at import or before a loop runs, and used in several loops: each has a connection
    of its own, which `close` or the end of an `async with` block closes. In a process that was
    forked after the first call, it raises `RuntimeError`. For arguments and errors see `Client`.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        key: str | None = None,
        tls: bool | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        timeout: Span | None = None,
    ) -> None:
        self._endpoint = find_endpoint(
            address, key=key, tls=tls, ca=ca, cert=cert, cert_key=cert_key, timeout=timeout
        )
        self._channel = LazyChannel(self._endpoint)

    def __repr__(self) -> str:
        return f"AsyncClient({self._endpoint!r})"

    async def __aenter__(self) -> Self:
        self._channel.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection of the running loop; calls and watches on it end."""
        await self._channel.close()

    # Reports.

    async def create_batch(
        self,
        dataset: str | uuid.UUID,
        documents: Iterable[str | NewDocument] = (),
        *,
        batch_id: str | None = None,
        labels: Labels | None = None,
        more_documents_follow: bool = False,
        start_after: Span | None = None,
        stall_after: Span | None = None,
        fail_after: Span | None = None,
        seal_after: Span | None = None,
        dataset_name: str | None = None,
    ) -> Batch:
        """Create a batch and register its documents, and create its dataset if that is new.

        See `Client.create_batch`.
        """
        return await self._send(
            calls.create_batch(
                dataset,
                documents,
                batch_id=batch_id,
                labels=labels,
                more_documents_follow=more_documents_follow,
                start_after=start_after,
                stall_after=stall_after,
                fail_after=fail_after,
                seal_after=seal_after,
                dataset_name=dataset_name,
            )
        )

    async def add_documents(
        self, dataset: str | uuid.UUID, batch_id: str, documents: Iterable[str | NewDocument]
    ) -> Batch:
        """Register more documents in a batch that is not sealed, at most 10,000 a call.

        See `Client.add_documents`.
        """
        return await self._send(calls.add_documents(dataset, batch_id, documents))

    async def seal_batch(self, dataset: str | uuid.UUID, batch_id: str) -> Batch:
        """Seal a batch: no documents can be added, and it ends once they all have ended.

        See `Client.seal_batch`.
        """
        return await self._send(calls.seal_batch(dataset, batch_id))

    async def start_attempt(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        document_id: str,
        worker: str,
        *,
        only_if_pending: bool = False,
    ) -> Document:
        """Start work on a document, and take it over from any other worker.

        See `Client.start_attempt`.
        """
        return await self._send(
            calls.start_attempt(
                dataset, batch_id, document_id, worker, only_if_pending=only_if_pending
            )
        )

    async def report(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        reports: Iterable[DocumentReport],
        *,
        allow_partial: bool = False,
    ) -> list[ReportResult]:
        """Record 1 to 1,000 reports on documents of a batch, in their order, all or none.

        See `Client.report`.
        """
        return await self._send(
            calls.report(dataset, batch_id, reports, allow_partial=allow_partial)
        )

    async def heartbeat(
        self, dataset: str | uuid.UUID, batch_id: str, attempts: Mapping[str, int]
    ) -> dict[str, WorkerOrder]:
        """Keep documents from stalling while there is nothing to report; see `Client.heartbeat`."""
        return await self._send(calls.heartbeat(dataset, batch_id, attempts))

    # Status.

    async def get_dataset(self, dataset: str | uuid.UUID) -> Dataset:
        """Return a dataset; see `Client.get_dataset`."""
        return await self._send(calls.get_dataset(dataset))

    async def get_batch(self, dataset: str | uuid.UUID, batch_id: str) -> Batch:
        """Return a batch; see `Client.get_batch`."""
        return await self._send(calls.get_batch(dataset, batch_id))

    async def get_document(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str
    ) -> Document:
        """Return a document; see `Client.get_document`."""
        return await self._send(calls.get_document(dataset, batch_id, document_id))

    def list_datasets(self, datasets: Iterable[str | uuid.UUID] = ()) -> AsyncIterator[Dataset]:
        """Yield datasets in the order of their ids: the given ones that exist, or all.

        See `Client.list_datasets`.
        """
        return self._list(calls.list_datasets(datasets))

    def list_batches(
        self,
        dataset: str | uuid.UUID | None = None,
        *,
        states: Iterable[BatchState | str] = (),
    ) -> AsyncIterator[Batch]:
        """Yield the batches of a dataset or of all, newest first, by default in any state.

        See `Client.list_batches`.
        """
        return self._list(calls.list_batches(dataset, states))

    def list_documents(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        *,
        states: Iterable[DocumentState | str] = (),
        stages: Iterable[Stage | str] = (),
    ) -> AsyncIterator[Document]:
        """Yield the documents of a batch in the order of their registration.

        See `Client.list_documents`.
        """
        return self._list(calls.list_documents(dataset, batch_id, states, stages))

    def history(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> AsyncIterator[Transition]:
        """Yield the transitions of a batch, or of one document of it, oldest first.

        See `Client.history`.
        """
        return self._list(calls.list_transitions(dataset, batch_id, document_id))

    async def wait(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        *,
        timeout: Span | None = None,  # noqa: ASYNC109 - as `Client` has it; it outlasts one call
    ) -> Batch:
        """Wait until a batch has ended, and return it; see `Client.wait`."""
        waiting = Waiting(dataset, batch_id, timeout)
        while True:
            batch, done = await self._send(waiting.call(), give_up_after_s=waiting.give_up_after_s)
            if done:
                return batch
            waiting.check(batch)

    def watch(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        *,
        resume_token: str | None = None,
        follow: bool = False,
        transitions_only: bool = False,
        fail_on_expired_token: bool = False,
        give_up_after: Span = GIVE_UP_AFTER_S,
    ) -> AsyncWatch:
        """Watch a batch until it has ended: iterate over its events, each exactly once.

        See `Client.watch`.
        """
        request = watch_request(
            dataset,
            batch_id,
            resume_token=resume_token,
            follow=follow,
            transitions_only=transitions_only,
            fail_on_expired_token=fail_on_expired_token,
        )
        return AsyncWatch(self._channel, BatchEvents(request, dataset), give_up_after)

    def watch_datasets(
        self,
        datasets: Iterable[str | uuid.UUID] = (),
        *,
        give_up_after: Span = GIVE_UP_AFTER_S,
    ) -> AsyncDatasetsWatch:
        """Watch datasets, the given ones or all, without an end; see `Client.watch_datasets`."""
        ids = calls.dataset_ids_of(datasets)
        return AsyncDatasetsWatch(self._channel, DatasetEvents(ids), give_up_after)

    # Controls.

    async def pause(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Pause the pending and running documents of a batch, or one document.

        See `Client.pause`.
        """
        return await self._send(calls.control("Pause", dataset, batch_id, document_id))

    async def resume(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Resume the paused documents of a batch, or one document; see `Client.resume`."""
        return await self._send(calls.control("Resume", dataset, batch_id, document_id))

    async def stop(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Stop the documents of a batch that have not ended, or one document; see `Client.stop`."""
        return await self._send(calls.control("Stop", dataset, batch_id, document_id))

    async def retry(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Give failed and stopped documents another attempt; a named one also if it succeeded.

        See `Client.retry`.
        """
        return await self._send(calls.control("Retry", dataset, batch_id, document_id))

    async def delete_batch(self, dataset: str | uuid.UUID, batch_id: str) -> None:
        """Delete a batch with its documents and its history, for good.

        See `Client.delete_batch`.
        """
        await self._send(calls.delete_batch(dataset, batch_id))

    async def delete_dataset(self, dataset: str | uuid.UUID) -> None:
        """Delete a dataset with all its batches, for good; see `Client.delete_dataset`."""
        await self._send(calls.delete_dataset(dataset))

    async def _send(self, call: Call[T], *, give_up_after_s: float | None = None) -> T:
        retries = Retries(self._endpoint, give_up_after_s)
        while True:
            rpc = self._channel.unary_unary(**method_of(call.request))
            try:
                response = await rpc(call.request, timeout=call.wait_s + retries.left_s)
            except aio.AioRpcError as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise error_of(error, self._endpoint, call.dataset) from None
            except aio.UsageError:
                raise RuntimeError("the client is closed") from None
            else:
                retries.succeeded()
                return call.read(response)
            await asyncio.sleep(pause_s)

    async def _list(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        following: Call[Page[T]] | None = call
        while following is not None:
            page = await self._send(following)
            for item in page.items:
                yield item
            following = page.next
