"""Which documents of a batch are pending, by a watch on a thread of its own."""

from __future__ import annotations

import threading

from stagecast.client.channel import ThreadChannel
from stagecast.client.enums import DocumentState
from stagecast.client.records import Document, Event, NewDocument, Snapshot, Transition
from stagecast.client.reporting.engine import Engine
from stagecast.client.reporting.options import BatchOptions
from stagecast.client.resumption import BatchEvents, watch_request
from stagecast.client.sync_watch import Watch
from stagecast.errors import StagecastError

_GIVE_UP_AFTER_S = 10**9  # never: without a server, a pipeline waits until it is interrupted


class Follower:
    """Follows a batch; everything is guarded by the lock of the outbox.

    Attributes:
        pending: the ids of documents that no worker has, oldest first.
        started: those that a worker had or has.
        unclaimed: documents of this block that no worker is known to have.
        revision: of the batch, as it is known here.
        open_documents: how many have not ended then.
        over: whether the batch has ended, or the watch has.
        error: why the watch ended before the batch.
    """

    def __init__(self, engine: Engine, options: BatchOptions) -> None:
        self._engine = engine
        self._options = options
        self._closed = False
        self._watch: Watch | None = None
        self._started = False
        self.pending: dict[str, None] = {}
        self.unclaimed: dict[str, NewDocument] = {}
        self.started: set[str] = set()
        self.revision = 0
        self.open_documents = 0
        self.over = False
        self.error: StagecastError | None = None

    def start(self) -> None:
        """Start to follow, once."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="stagecast-follower", daemon=True).start()

    def close(self) -> None:
        """End the watch."""
        self._closed = True
        if self._watch is not None:
            self._watch.close()

    def _run(self) -> None:
        request = watch_request(
            self._options.dataset_id,
            self._options.batch_id,
            resume_token=None,
            follow=False,
            transitions_only=True,
            fail_on_expired_token=False,
        )
        channel = ThreadChannel(self._engine.endpoint)
        self._engine.endpoint.reached = True  # by the sender; so the watch reconnects
        watch = self._watch = Watch(channel, BatchEvents(request), _GIVE_UP_AFTER_S)
        if self._closed:  # before there was a watch
            watch.close()
        error: StagecastError | None = None
        try:
            for event in watch:
                self._take(event, watch)
        except StagecastError as failure:
            error = failure
        finally:
            channel.close()
            with self._engine.outbox.notifying():
                self.error, self.over = error, True

    def _take(self, event: Event, watch: Watch) -> None:
        with self._engine.outbox.notifying():
            if isinstance(event, Snapshot):
                self.pending.clear()
                for document in event.documents:
                    self._sort(document)
            elif isinstance(event, Transition) and event.document is not None:
                self._sort(event.document)
            if watch.batch is not None:
                counts = watch.batch.counts
                self.revision = watch.batch.revision
                self.open_documents = counts.pending + counts.running + counts.paused

    def _sort(self, document: Document) -> None:
        if document.state is DocumentState.PENDING:
            self.pending[document.document_id] = None
        else:
            self.started.add(document.document_id)
            self.pending.pop(document.document_id, None)
            self.unclaimed.pop(document.document_id, None)
