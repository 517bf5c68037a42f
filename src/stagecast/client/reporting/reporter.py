"""`Reporter`, and the two functions with which most pipelines do without one."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from stagecast.client.arguments import Span, items_of
from stagecast.client.endpoint import find_endpoint
from stagecast.client.records import NewDocument
from stagecast.client.reporting.batch import BatchFace, BatchReporter
from stagecast.client.reporting.core import BatchCore
from stagecast.client.reporting.document import DocumentCore, DocumentReporter
from stagecast.client.reporting.engine import Engine
from stagecast.client.reporting.options import (
    BatchOptions,
    Documents,
    OnError,
    behaviour_of,
    options_of,
    worker_of,
)
from stagecast.client.reporting.queues import Mode
from stagecast.client.reporting.tokens import DocumentToken

BatchT = TypeVar("BatchT", bound=BatchFace[Any])
DocumentT = TypeVar("DocumentT", bound=DocumentCore)


class ReporterFace(Generic[BatchT, DocumentT]):
    """What both kinds of reporters have in common."""

    _batch_class: type[BatchT]
    _document_class: type[DocumentT]

    def __init__(
        self,
        address: str | None = None,
        *,
        key: str | None = None,
        tls: bool | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        worker: str | None = None,
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        endpoint = find_endpoint(
            address, key=key, tls=tls, ca=ca, cert=cert, cert_key=cert_key, timeout=None
        )
        self._engine = Engine(
            endpoint, worker=worker_of(worker), spool=None if spool is None else os.fspath(spool)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._engine.endpoint!r})"

    def close(self) -> None:
        """End the connection once all is sent; do not wait for that."""
        self._engine.close()

    def batch(
        self,
        dataset: str | uuid.UUID,
        documents: Documents | None = None,
        *,
        batch_id: str | None = None,
        on_error: OnError = "raise",
        strict: bool = False,
        obey: bool = True,
        stall_on_no_progress: Span | None = None,
        labels: Mapping[str, str] | None = None,
        start_after: Span | None = None,
        stall_after: Span | None = None,
        fail_after: Span | None = None,
        seal_after: Span | None = None,
    ) -> BatchT:
        """Return a batch, to be used in a `with` block; `async with` for an `AsyncReporter`.

        Args:
            dataset: a name, or a UUID.
            documents: ids, paths or `NewDocument`s. `pending` reads an iterator a hundred at a
                time; a list is registered when the block begins. Omit them, and give a `batch_id`,
                for a batch whose documents others submit.
            batch_id: by default a new one. Give that of an earlier run to leave out in `pending`
                what has succeeded then.
            on_error: `"raise"` or `"continue"`: whether an exception in the block of a document,
                which fails the document, also leaves the block.
            strict: raise `stagecast.NotDelivered` if a report cannot be delivered, and wait for the
                last ones at the end of the block.
            obey: whether documents pause and stop as an operator orders.
            stall_on_no_progress: how long until a document without a report counts as stalled, as
                its work hangs; such as `"10m"`, never by default.
            labels: at most 32 texts by key.
            start_after: how long until a document that nobody starts stalls; never by default.
            stall_after: how long until a document whose worker is silent stalls; 5 minutes by
                default, 0 for never.
            fail_after: how much longer until it fails as `WORKER_LOST`; never by default.
            seal_after: how long until an abandoned batch is sealed; never by default.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        options = options_of(
            dataset, batch_id, labels, start_after, stall_after, fail_after, seal_after
        )
        behaviour = behaviour_of(on_error, stall_on_no_progress, strict=strict, obey=obey)
        known = None if documents is None else items_of("documents", documents)
        mode = Mode.JOIN if documents is None and batch_id is not None else Mode.CREATE
        return self._batch_class(BatchCore(self._engine, options, mode, known, behaviour))

    def attach(
        self,
        token: str,
        *,
        on_error: OnError = "raise",
        strict: bool = False,
        obey: bool = True,
        stall_on_no_progress: Span | None = None,
    ) -> DocumentT:
        """Take up a document of another process by its `doc.token`.

        A token that was made outside the document's block begins an attempt at it. One that was
        made within joins the attempt of the process that made it.

        Args:
            token: the text.
            on_error: as for `batch`, like the next three.
            strict: see there.
            obey: see there.
            stall_on_no_progress: see there.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        behaviour = behaviour_of(on_error, stall_on_no_progress, strict=strict, obey=obey)
        known = DocumentToken.decode(token)
        options = BatchOptions(dataset_id=known.dataset_id, batch_id=known.batch_id)
        core = BatchCore(self._engine, options, Mode.ATTACH, None, behaviour)
        new = NewDocument(
            document_id=known.document_id, display_name=known.display_name, labels=known.labels
        )
        queue = core.document(new)
        if known.worker:
            queue.worker, queue.attempt = known.worker, known.attempt
        return self._document_class(core, new, queue, owns_batch=True)


class Reporter(ReporterFace[BatchReporter, DocumentReporter]):
    """Reports what a pipeline does, without slowing or breaking it.

    Reports are put into a buffer and sent by one thread in the background, every 0.2 s or 500
    reports. While the server is away they wait, with the time at which they were made. What cannot
    be delivered is logged once for each batch and counted in `batch.stats`. At the end of the
    interpreter, what waits is sent for up to 5 s.

    `stagecast.batch` is a shortcut for programs that need only one. Use a `Reporter` for another
    server, or to name the worker. It may be made at import and shared by threads; a forked process
    begins anew.

    Args:
        address: `HOST:PORT` of the server's gRPC, or `unix:PATH`. It and the next five arguments
            have their defaults in the environment, as for `stagecast.Client`: `STAGECAST_GRPC` and
            so on. Without it the address is `127.0.0.1:50051`.
        key: an API key or a signed token.
        tls: whether to use TLS, by default with the certificates that the system trusts.
        ca: a PEM file of certificates to trust instead; implies TLS.
        cert, cert_key: PEM files of the client certificate and its private key; imply TLS.
        worker: the name of this worker, by default one that no other process has.
        spool: a file that keeps what waits, for a process that is killed; the next reporter with
            the same file sends it first.

    Raises:
        ValueError: an argument is invalid, or a file cannot be read or does not contain a
            certificate or key.
    """

    _batch_class = BatchReporter
    _document_class = DocumentReporter

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def batch(
    dataset: str | uuid.UUID,
    documents: Documents | None = None,
    *,
    batch_id: str | None = None,
    on_error: OnError = "raise",
    strict: bool = False,
    obey: bool = True,
    spool: str | os.PathLike[str] | None = None,
    stall_on_no_progress: Span | None = None,
    labels: Mapping[str, str] | None = None,
    start_after: Span | None = None,
    stall_after: Span | None = None,
    fail_after: Span | None = None,
    seal_after: Span | None = None,
) -> BatchReporter:
    """Return a batch of the server that the environment names, to be used in a `with` block.

    For example:

        with stagecast.batch("handbook", ["a.md", "b.md"]) as batch:
            for doc in batch.pending():
                with doc:
                    doc.parsing()
                    ...

    `spool` is a file that keeps what waits, for a process that is killed: the next one with the
    same file sends it first. All other arguments are those of `Reporter.batch`.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    return _shared_reporter(spool=spool).batch(
        dataset,
        documents,
        batch_id=batch_id,
        on_error=on_error,
        strict=strict,
        obey=obey,
        stall_on_no_progress=stall_on_no_progress,
        labels=labels,
        start_after=start_after,
        stall_after=stall_after,
        fail_after=fail_after,
        seal_after=seal_after,
    )


def attach(
    token: str,
    *,
    on_error: OnError = "raise",
    strict: bool = False,
    obey: bool = True,
    stall_on_no_progress: Span | None = None,
) -> DocumentReporter:
    """Take up a document of another process by its `doc.token`; see `Reporter.attach`.

    The server is the one that the environment names, else the one of the token.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    address = None if os.environ.get("STAGECAST_GRPC") else DocumentToken.decode(token).address
    return _shared_reporter(address=address or None).attach(
        token,
        on_error=on_error,
        strict=strict,
        obey=obey,
        stall_on_no_progress=stall_on_no_progress,
    )


_shared: dict[Any, Reporter] = {}
_sharing = threading.Lock()


def _shared_reporter(
    *, address: str | None = None, spool: str | os.PathLike[str] | None = None
) -> Reporter:
    """Return the reporter of this process for the environment as it is now."""
    variables = {key: value for key, value in os.environ.items() if key.startswith("STAGECAST_")}
    path = None if spool is None else os.path.abspath(spool)  # noqa: PTH100 - of a text
    name = (frozenset(variables.items()), address, path)
    with _sharing:
        if name not in _shared:
            _shared[name] = Reporter(address, spool=path)
        return _shared[name]
