"""The watch: every transition of a batch, exactly once and in order.

A watcher is one cursor into the batch's log. It listens, reads what lies after its cursor, sends
that, and waits for the bell; it never holds anything that the log does not. Since the log is
committed before the bell rings, nothing is sent that a crash could take back, and a lost bell costs
a heartbeat interval, never a transition.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from stagecast.config import Config
from stagecast.errors import (
    BatchDeleted,
    Draining,
    HistoryChanged,
    TokenExpired,
    WatchExpired,
)
from stagecast.feed import Bell, Feed
from stagecast.model import (
    Batch,
    Document,
    ResumeToken,
    SnapshotReason,
    Transition,
    WatchRequest,
    batch_at,
    batch_state,
    size_bound,
    take_page,
)
from stagecast.store import Reading, Store, get_batch, get_call

_PAGE = 1_000  # transitions, or counters, that are read at once
_HISTORY_ERRORS = {
    SnapshotReason.TOKEN_EXPIRED: TokenExpired,
    SnapshotReason.HISTORY_CHANGED: HistoryChanged,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotPart:
    """Some documents of a snapshot; `complete` on the last part."""

    reason: SnapshotReason
    documents: Sequence[Document]
    complete: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchMessage:
    """What a watcher is sent; a message that is a part only has no `batch` and no `resume_token`.

    `progress` are documents with their newest counters.
    """

    snapshot: SnapshotPart | None = None
    transitions: Sequence[Transition] = ()
    progress: Sequence[Document] = ()
    batch: Batch | None
    revision: int
    resume_token: str
    server_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cursor:
    """How far a watcher is: in the log, and in the counters."""

    key: int
    revision: int
    call: int
    serial: int
    mark: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Start:
    """Where a watch begins, and the snapshot that it has to begin with."""

    cursor: _Cursor
    batch: Batch
    reason: SnapshotReason | None
    documents: Sequence[Document]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Page:
    """What one read found after a cursor.

    `whole` says that the last transition is the last of its call, `caught_up` that the read found
    everything there was. `batch` is as of the cursor.
    """

    cursor: _Cursor
    transitions: Sequence[Transition]
    progress: Sequence[Document]
    batch: Batch
    whole: bool
    caught_up: bool


class Watches:
    """Serves watchers from the store, woken by the feed."""

    def __init__(
        self, store: Store, feed: Feed, *, config: Config, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._feed = feed
        self._config = config
        self._clock = clock

    async def watch(
        self, request: WatchRequest, *, on_begun: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[WatchMessage]:
        """Yield the messages of a watch; it ends when the batch is terminal and all was sent.

        Args:
            request: what to watch.
            on_begun: called when the request was found good, maybe long before there is news.

        Raises:
            BatchNotFound: there is no such batch.
            TokenInvalid: the token is malformed, or of another batch.
            TokenExpired, HistoryChanged: if the request asks for that instead of a snapshot.
            BatchDeleted: the batch went while it was watched.
            Draining, WatchExpired: watch again with the last token.
        """
        with self._feed.listen((request.dataset_id, request.batch_id)) as bell:
            patience = _Patience(request.heartbeat_s, self._config)
            start = await self._store.read(functools.partial(_start, request=request))
            await on_begun()
            if start.reason is not None:
                for message in self._snapshot(start, start.reason):
                    yield message
                patience.sent()
                if _over(request, start.batch):
                    return
            cursor = start.cursor
            while True:
                bell.clear()
                page = await self._store.read(
                    functools.partial(_read_page, request=request, cursor=cursor)
                )
                cursor = page.cursor
                over = page.caught_up and _over(request, page.batch)
                if page.transitions or page.progress or over or patience.heartbeat_due:
                    yield self._message(page)
                    patience.sent()
                if over:
                    return
                self._check_alive(patience)
                if page.caught_up:
                    await patience.wait(bell)

    def _snapshot(self, start: _Start, reason: SnapshotReason) -> Iterator[WatchMessage]:
        for documents, complete in _parts(start.documents):
            part = SnapshotPart(reason=reason, documents=documents, complete=complete)
            yield WatchMessage(
                snapshot=part,
                batch=start.batch if complete else None,
                revision=start.batch.revision,
                resume_token=_token(start.batch, start.cursor) if complete else "",
                server_at=self._clock(),
            )

    def _message(self, page: _Page) -> WatchMessage:
        return WatchMessage(
            transitions=page.transitions,
            progress=page.progress,
            batch=page.batch if page.whole else None,
            revision=page.cursor.revision,
            resume_token=_token(page.batch, page.cursor) if page.whole else "",
            server_at=self._clock(),
        )

    def _check_alive(self, patience: _Patience) -> None:
        if self._feed.closed:
            raise Draining(
                "the server is about to stop; watch again with the last token",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            )
        if patience.life_over:
            raise WatchExpired(
                "the watch has lived long enough; watch again with the last token",
                retry_after_s=random.uniform(0.0, 1.0),  # noqa: S311 - spreads reconnects
            )


class _Patience:
    """The times of one watch: its heartbeat, its tick and its life, on the loop's clock."""

    def __init__(self, heartbeat_s: float, config: Config) -> None:
        self._now = asyncio.get_running_loop().time
        self._heartbeat_s = heartbeat_s
        self._tick_s = config.watch_tick_s
        self._last_s = self._now()
        life = config.watch_life_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnects
        self._end_s = self._last_s + life

    @property
    def heartbeat_due(self) -> bool:
        return self._now() >= self._heartbeat_at_s

    @property
    def _heartbeat_at_s(self) -> float:
        """A little early, so that the client has it in time."""
        return self._last_s + max(0.9 * self._heartbeat_s, self._heartbeat_s - 0.5)

    @property
    def life_over(self) -> bool:
        return self._now() >= self._end_s

    def sent(self) -> None:
        self._last_s = self._now()

    async def wait(self, bell: Bell) -> None:
        """Wait for the bell, the heartbeat or the end; then gather what the tick still brings.

        A lone event finds the tick over and is sent at once; a burst shares messages.
        """
        due = min(self._heartbeat_at_s, self._end_s)
        if await bell.wait(due - self._now()):
            rest = self._last_s + self._tick_s - self._now()
            if rest > 0:
                await asyncio.sleep(rest)


def _over(request: WatchRequest, batch: Batch) -> bool:
    return batch_state(batch).terminal and not request.follow


def _token(batch: Batch, cursor: _Cursor) -> str:
    return ResumeToken(
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=cursor.revision,
        call=cursor.call,
        serial=cursor.serial,
        mark=cursor.mark,
    ).encode()


def _start(tx: Reading, request: WatchRequest) -> _Start:
    """Go on from the request's token, or begin with a snapshot."""
    token = None
    if request.resume_token:
        token = ResumeToken.decode(
            request.resume_token, dataset_id=request.dataset_id, batch_id=request.batch_id
        )
    batch = get_batch(tx, request.dataset_id, request.batch_id)
    if token is None:
        return _start_whole(tx, batch, SnapshotReason.INITIAL)
    reason = _why_not(tx, batch, token)
    if reason is None:
        return _start_from(batch, token)
    if request.fail_on_expired_token:
        raise _HISTORY_ERRORS[reason](
            f"the token's revision {token.revision} cannot be gone on from; batch "
            f"{batch.batch_id!r} is at {batch.revision}",
            dataset_id=batch.dataset_id,
            batch_id=batch.batch_id,
            revision=token.revision,
        )
    return _start_whole(tx, batch, reason)


def _start_whole(tx: Reading, batch: Batch, reason: SnapshotReason) -> _Start:
    cursor = _Cursor(
        key=batch.key,
        revision=batch.revision,
        call=get_call(tx, batch),
        serial=batch.progress_serial,
        mark=batch.progress_mark,
    )
    documents = list(tx.iterate_documents(batch))
    return _Start(cursor=cursor, batch=batch, reason=reason, documents=documents)


def _start_from(batch: Batch, token: ResumeToken) -> _Start:
    cursor = _Cursor(
        key=batch.key,
        revision=token.revision,
        call=token.call,
        serial=token.serial,
        mark=token.mark,
    )
    return _Start(cursor=cursor, batch=batch, reason=None, documents=())


def _why_not(tx: Reading, batch: Batch, token: ResumeToken) -> SnapshotReason | None:
    """Tell why a watch cannot go on from its token, or `None` if it can."""
    call = tx.find_call(batch, token.revision)
    if call == token.call:
        # A copy may bear the transition, and yet have gone on from older counters.
        known = not token.serial or token.serial <= tx.find_serial(batch, token.mark)
        return None if known else SnapshotReason.HISTORY_CHANGED
    if call is None and token.revision <= batch.revision:
        return SnapshotReason.TOKEN_EXPIRED
    return SnapshotReason.HISTORY_CHANGED


def _read_page(tx: Reading, request: WatchRequest, cursor: _Cursor) -> _Page:
    """Read what lies after a cursor: a page of the log, and at its end the counters."""
    batch = tx.find_batch(request.dataset_id, request.batch_id)
    if batch is None or batch.key != cursor.key:
        raise BatchDeleted(request.dataset_id, request.batch_id)
    log = tx.iterate_transitions(batch, after_revision=cursor.revision)
    transitions, whole, more = _cut_page(log)
    if transitions:
        last = transitions[-1]
        cursor = replace(cursor, revision=last.revision, call=last.call)
    progress: list[Document] = []
    if not more and not request.transitions_only:
        progress, serial, more = _read_progress(tx, batch, cursor.serial)
        cursor = replace(cursor, serial=serial, mark=batch.progress_mark)
    return _Page(
        cursor=cursor,
        transitions=transitions,
        progress=progress,
        batch=batch_at(batch, transitions[-1]) if transitions else batch,
        whole=whole,
        caught_up=not more,
    )


def _read_progress(tx: Reading, batch: Batch, serial: int) -> tuple[list[Document], int, bool]:
    """Read the newest counters after a serial: the documents, their serial, whether more follow."""
    counted = tx.iterate_progress(batch, after_serial=serial)
    page, following = take_page(counted, lambda pair: size_bound(pair[1]), most=_PAGE)
    reached = page[-1][0] if following else batch.progress_serial
    return [document for _, document in page], reached, following is not None


def _cut_page(log: Iterable[Transition]) -> tuple[list[Transition], bool, bool]:
    """Take a page of the log: the transitions, whether they end with a call, whether more follow.

    The page ends where a call ends; only a call that is larger than a page is cut in two.
    """
    page, following = take_page(log, lambda t: size_bound(t.document), most=_PAGE)
    if following is None or page[-1].call != following.call:
        return page, True, following is not None
    whole = [earlier for earlier in page if earlier.call != following.call]
    return whole or page, bool(whole), True


def _parts(documents: Sequence[Document]) -> Iterator[tuple[Sequence[Document], bool]]:
    """Cut a snapshot into parts that fit a message; True on the last, of which there is one."""
    rest = iter(documents)
    while True:
        part, following = take_page(rest, size_bound, most=len(documents))
        yield part, following is None
        if following is None:
            return
        rest = itertools.chain((following,), rest)
