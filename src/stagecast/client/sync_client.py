"""`Client`: the RPCs of a server as methods, for threads."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import grpc

from stagecast.client import calls
from stagecast.client.arguments import Span
from stagecast.client.calls import Call, Page, method_of
from stagecast.client.channel import ThreadChannel
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
from stagecast.client.sync_watch import DatasetsWatch, Watch
from stagecast.client.waiting import GIVE_UP_AFTER_S, Waiting

T = TypeVar("T")


class Client:
    """A server, for threads: its RPCs as methods, and watches that resume by themselves.

    It may be made at import, and shared by threads. It connects on the first call, and `close` or
    the end of a `with` block closes the connection. In a process that was forked after the first
    call, it raises `RuntimeError`.

    A dataset is given by its UUID or by a name, which stands for the UUIDv5 of that name. Spans are
    timedeltas, seconds, or texts such as `"90s"`, `"5m"` or `"12h"`. Enum values may be given
    as strings, such as `"SUCCEEDED"`.

    A call is made again while the server is restarting or advises it, until `timeout`; this is
    safe for every call. A server that this client has never reached is tried once.

    Args:
        address: `HOST:PORT` of the server's gRPC, or `unix:PATH`. Each argument has its default in
            the environment, as for the commands: `STAGECAST_GRPC` and so on. Without it the address
            is `127.0.0.1:50051`.
        key: an API key or a signed token.
        tls: whether to use TLS, by default with the certificates that the system trusts.
        ca: a PEM file of certificates to trust instead; implies TLS.
        cert, cert_key: PEM files of the client certificate and its private key; imply TLS.
        timeout: how long a call may take in all, tries included; a minute by default.

    Raises:
        ValueError: an argument is invalid, or a file cannot be read or does not contain a
            certificate or key.

    Every method may raise a `stagecast.StagecastError`; the docstrings name the most important
    ones. Not repeated there are `stagecast.Unavailable` if the server cannot be reached or does not
    answer in time, `stagecast.FieldInvalid` for an argument that breaks a rule,
    `stagecast.CredentialsError` and `stagecast.DeniedError` for the key. A wrong type is a
    `TypeError`; an unknown enum value, an empty id or a mistyped UUID a `ValueError`.
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
        self._channel = ThreadChannel(self._endpoint)

    def __repr__(self) -> str:
        return f"Client({self._endpoint!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls and watches under way end, later ones are refused."""
        self._channel.close()

    # Reports.

    def create_batch(
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

        Args:
            dataset: UUID or name.
            documents: ids, or `NewDocument` for more; at most 10,000 a call.
            batch_id: generated if omitted. With one, the call may be repeated: the same content
                returns the batch again.
            labels: at most 32 texts by key.
            more_documents_follow: leave it open for `add_documents`, until `seal_batch`.
            start_after: how long until a document that nobody starts stalls; never by default.
            stall_after: how long until a document whose worker is silent stalls; 5 minutes by
                default, 0 for never.
            fail_after: how much longer until it fails as `WORKER_LOST`; never by default.
            seal_after: how long until an abandoned batch is sealed; never by default.
            dataset_name: what to show for the dataset; the last one replaces earlier ones.

        Raises:
            stagecast.BatchExists: the id belongs to a batch with other content.
        """
        return self._send(
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

    def add_documents(
        self, dataset: str | uuid.UUID, batch_id: str, documents: Iterable[str | NewDocument]
    ) -> Batch:
        """Register more documents in a batch that is not sealed, at most 10,000 a call.

        Those that are registered already with the same content are skipped.

        Raises:
            stagecast.BatchNotFound: there is no such batch.
            stagecast.BatchSealed: it is sealed, and there are new documents.
            stagecast.DocumentExists: an id belongs to a document with other content.
        """
        return self._send(calls.add_documents(dataset, batch_id, documents))

    def seal_batch(self, dataset: str | uuid.UUID, batch_id: str) -> Batch:
        """Seal a batch: no documents can be added, and it ends once they all have ended.

        Raises:
            stagecast.BatchNotFound: there is no such batch.
        """
        return self._send(calls.seal_batch(dataset, batch_id))

    def start_attempt(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        document_id: str,
        worker: str,
        *,
        only_if_pending: bool = False,
    ) -> Document:
        """Start work on a document, and take it over from any other worker.

        The same worker may repeat the call. A document that has ended is opened again, even if it
        has succeeded: the next attempt begins in stage WAITING.

        Args:
            dataset: UUID or name.
            batch_id: the batch.
            document_id: the document.
            worker: the name of the worker, the same in every call of one worker.
            only_if_pending: only if no other worker has it, and it has not ended.

        Returns:
            the document; name its `attempt` in reports, so that they are refused after a takeover.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is no such batch or document.
            stagecast.DocumentTaken: with `only_if_pending`, another worker has it, it has ended, or
                it is paused.
        """
        return self._send(
            calls.start_attempt(
                dataset, batch_id, document_id, worker, only_if_pending=only_if_pending
            )
        )

    def report(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        reports: Iterable[DocumentReport],
        *,
        allow_partial: bool = False,
    ) -> list[ReportResult]:
        """Record 1 to 1,000 reports on documents of a batch, in their order, all or none.

        Args:
            dataset: UUID or name.
            batch_id: the batch.
            reports: on documents of the batch; the same may occur more than once.
            allow_partial: record the others when some are refused. A refused one then has the
                outcome `REFUSED` and its `refusal`, and only `BatchNotFound` is raised.

        Returns:
            one result for each report, in their order. `DUPLICATE` and `OVERTAKEN` are no errors:
            the document has that stage and those counters already, or has gone further.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is no such batch or document.
            stagecast.IllegalTransition: a document has ended; `start_attempt` opens it again.
            stagecast.StaleAttempt: another worker has the document now.
        """
        return self._send(calls.report(dataset, batch_id, reports, allow_partial=allow_partial))

    def heartbeat(
        self, dataset: str | uuid.UUID, batch_id: str, attempts: Mapping[str, int]
    ) -> dict[str, WorkerOrder]:
        """Keep documents from stalling while there is nothing to report.

        Args:
            dataset: UUID or name.
            batch_id: the batch.
            attempts: the attempts that the worker has, by document id; at most 1,000.

        Returns:
            what to do with each document, by id.

        Raises:
            stagecast.BatchNotFound: there is no such batch; drop all its documents.
        """
        return self._send(calls.heartbeat(dataset, batch_id, attempts))

    # Status.

    def get_dataset(self, dataset: str | uuid.UUID) -> Dataset:
        """Return a dataset.

        Raises:
            stagecast.DatasetNotFound: there is no such dataset.
        """
        return self._send(calls.get_dataset(dataset))

    def get_batch(self, dataset: str | uuid.UUID, batch_id: str) -> Batch:
        """Return a batch.

        Raises:
            stagecast.DatasetNotFound, stagecast.BatchNotFound: there is none.
        """
        return self._send(calls.get_batch(dataset, batch_id))

    def get_document(self, dataset: str | uuid.UUID, batch_id: str, document_id: str) -> Document:
        """Return a document.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is none.
        """
        return self._send(calls.get_document(dataset, batch_id, document_id))

    def list_datasets(self, datasets: Iterable[str | uuid.UUID] = ()) -> Iterator[Dataset]:
        """Yield datasets in the order of their ids: the given ones that exist, or all.

        Lists are read page by page while they are iterated over.
        """
        return self._list(calls.list_datasets(datasets))

    def list_batches(
        self,
        dataset: str | uuid.UUID | None = None,
        *,
        states: Iterable[BatchState | str] = (),
    ) -> Iterator[Batch]:
        """Yield the batches of a dataset or of all, newest first, by default in any state.

        Raises:
            stagecast.DatasetNotFound: there is no such dataset.
        """
        return self._list(calls.list_batches(dataset, states))

    def list_documents(
        self,
        dataset: str | uuid.UUID,
        batch_id: str,
        *,
        states: Iterable[DocumentState | str] = (),
        stages: Iterable[Stage | str] = (),
    ) -> Iterator[Document]:
        """Yield the documents of a batch in the order of their registration.

        With `states`, only those in one of them; with `stages` likewise.

        Raises:
            stagecast.BatchNotFound: there is no such batch.
        """
        return self._list(calls.list_documents(dataset, batch_id, states, stages))

    def history(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> Iterator[Transition]:
        """Yield the transitions of a batch, or of one document of it, oldest first.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is none.
        """
        return self._list(calls.list_transitions(dataset, batch_id, document_id))

    def wait(
        self, dataset: str | uuid.UUID, batch_id: str, *, timeout: Span | None = None
    ) -> Batch:
        """Wait until a batch has ended, and return it.

        Args:
            dataset: UUID or name.
            batch_id: the batch.
            timeout: for how long; `None` for no limit.

        Raises:
            stagecast.TimedOut: it has not ended in time; a `TimeoutError`, too.
            stagecast.BatchNotFound, stagecast.BatchDeleted: there is no such batch, or it was
                deleted meanwhile.
            stagecast.Unavailable: the server was away for ten minutes, or until the timeout.
        """
        waiting = Waiting(dataset, batch_id, timeout)
        while True:
            batch, done = self._send(waiting.call(), give_up_after_s=waiting.give_up_after_s)
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
    ) -> Watch:
        """Watch a batch until it has ended: iterate over its events, each exactly once.

        The first is a `Snapshot` of all documents, then comes each `Transition` in order, and
        `DocumentProgress` with the newest counters. It reconnects without a gap when the connection
        is lost, the server restarts, or the watch has reached its maximum lifetime. Another
        `Snapshot` comes only if the history is no longer retained or has changed, as its `reason`
        says; it replaces everything.

        Leave the loop at any time; in a `with` block the watch ends with the block. The batch must
        exist: create it before, or find out by `watch_datasets`.

        Args:
            dataset: UUID or name.
            batch_id: the batch.
            resume_token: continue after what was received with it; see `Watch.resume_token`.
            follow: continue when the batch has ended, as a retry may reopen it.
            transitions_only: leave out `DocumentProgress`.
            fail_on_expired_token: raise an error instead of yielding another snapshot.
            give_up_after: how long the server may be away.

        Raises:
            stagecast.BatchNotFound, stagecast.BatchDeleted: there is no such batch, or no more.
            stagecast.TokenInvalid: the token is malformed or of another batch.
            stagecast.TokenExpired, stagecast.HistoryChanged: with `fail_on_expired_token`.
            stagecast.Unavailable: the server was away for too long, or is not there at first.
        """
        request = watch_request(
            dataset,
            batch_id,
            resume_token=resume_token,
            follow=follow,
            transitions_only=transitions_only,
            fail_on_expired_token=fail_on_expired_token,
        )
        return Watch(self._channel, BatchEvents(request, dataset), give_up_after)

    def watch_datasets(
        self,
        datasets: Iterable[str | uuid.UUID] = (),
        *,
        give_up_after: Span = GIVE_UP_AFTER_S,
    ) -> DatasetsWatch:
        """Watch datasets, the given ones or all, without an end.

        Each existing `Dataset` comes first, then each that has changed, in its latest form, and
        `DatasetRemoved` for one that was deleted. It resumes by itself.

        Args:
            datasets: UUIDs or names; one that does not exist yet comes once it does.
            give_up_after: how long the server may be away.

        Raises:
            stagecast.Unavailable: the server was away for too long, or is not there at first.
        """
        ids = calls.dataset_ids_of(datasets)
        return DatasetsWatch(self._channel, DatasetEvents(ids), give_up_after)

    # Controls.

    def pause(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Pause the pending and running documents of a batch, or one document.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is none.
        """
        return self._send(calls.control("Pause", dataset, batch_id, document_id))

    def resume(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Resume the paused documents of a batch, or one document.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is none.
        """
        return self._send(calls.control("Resume", dataset, batch_id, document_id))

    def stop(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Stop the documents of a batch that have not ended, or one document.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is none.
        """
        return self._send(calls.control("Stop", dataset, batch_id, document_id))

    def retry(
        self, dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
    ) -> ControlResult:
        """Give failed and stopped documents another attempt; a named one also if it succeeded.

        Raises:
            stagecast.BatchNotFound, stagecast.DocumentNotFound: there is none.
        """
        return self._send(calls.control("Retry", dataset, batch_id, document_id))

    def delete_batch(self, dataset: str | uuid.UUID, batch_id: str) -> None:
        """Delete a batch with its documents and its history, for good.

        Raises:
            stagecast.BatchNotFound: there is none; also if a repeated call has deleted it.
        """
        self._send(calls.delete_batch(dataset, batch_id))

    def delete_dataset(self, dataset: str | uuid.UUID) -> None:
        """Delete a dataset with all its batches, for good.

        Raises:
            stagecast.DatasetNotFound: there is none; also if a repeated call has deleted it.
        """
        self._send(calls.delete_dataset(dataset))

    def _send(self, call: Call[T], *, give_up_after_s: float | None = None) -> T:
        retries = Retries(self._endpoint, give_up_after_s)
        while True:
            rpc = self._channel.unary_unary(**method_of(call.request))
            try:
                response = rpc(call.request, timeout=call.wait_s + retries.left_s)
            except grpc.RpcError as error:
                failure: Any = error
                pause_s = retries.pause_s(failure)
                if pause_s is None:
                    raise error_of(failure, self._endpoint, call.dataset) from None
            else:
                retries.succeeded()
                return call.read(response)
            time.sleep(pause_s)

    def _list(self, call: Call[Page[T]]) -> Iterator[T]:
        following: Call[Page[T]] | None = call
        while following is not None:
            page = self._send(following)
            yield from page.items
            following = page.next
