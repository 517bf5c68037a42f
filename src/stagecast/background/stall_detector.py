"""The keeper: finds what has been waited for too long, and says so.

Documents that are silent stall, and fail; documents that nobody takes stall; batches that nobody
goes on with are sealed.

Every process runs one, and one of them at a time keeps, for as long as it beats in the store.
It looks only at timers that are due, by their index, a few in a transaction; there it decides anew.

Only time counts that a keeper has seen pass. After a pause in which none ran or the store could not
be written, and after a jump of the clock, everything has its full grace again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from stagecast.model import ALL, SECOND_US, deadline, give_up
from stagecast.periodic import PeriodicTask
from stagecast.store import BatchName, Lease, Store, TimerKey, WriteTransaction, get_batch

_STEP = 300  # timers in one transaction, which other writers wait for
_PAUSE_S = 0.01
_RENEW_EVERY_S = 2.0
_DEAD_AFTER_S = 6.0  # without a beat, the keeper is dead or hangs
# What is not yet a pause, or a jump of the clock.
_UNEVEN_S = 2.0
_UNEVEN_US = round(_UNEVEN_S * SECOND_US)
# Longer than a process keeps signs of life to itself before it writes them.
_MERGED_US = SECOND_US
# Longer than it waits for the lock of the store, and until it tries again.
_LOCKED_US = 8 * SECOND_US
_NOBODY = 0

T = TypeVar("T")

_log = logging.getLogger(__name__)


class StallDetector:
    """Looks after the documents and batches of a store, together with those of other processes.

    Args:
        store: where the documents are.
        clock: microseconds since the epoch, of which the store's times are.
        monotonic: seconds of a clock that never jumps.
        every_s: how often to look.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
        every_s: float,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._every_s = every_s
        self._me = random.getrandbits(62) + 1
        self._clock = _ClockMonitor(clock, monotonic, max_s=every_s + _UNEVEN_S)
        self._grace_from = 0
        self._beaten_s = 0.0
        self._other: Lease | None = None
        self._other_since_s = 0.0

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        task = PeriodicTask(_log, "look for what has been waited for too long")
        while True:
            await task.attempt(self.scan)
            await asyncio.sleep(self._every_s)

    async def scan(self) -> None:
        """Keep, if nobody else does: let stall, fail and seal what has been waited for too long.

        Raises:
            StoreBusy: the store cannot be used now.
        """
        try:
            await self._scan()
        except Exception:
            # Workers could not write either.
            self._clock.forget()
            raise

    async def release(self) -> None:
        """Let another process keep at once.

        Raises:
            StoreBusy: the store cannot be written now.
        """

        def release(tx: WriteTransaction) -> None:
            lease = tx.find_lease()
            if lease.holder == self._me:
                tx.save_lease(replace(lease, holder=_NOBODY))

        await self._store.write(release, visible=ALL)

    async def _scan(self) -> None:
        lease = await self._store.read(lambda tx: tx.find_lease(), visible=ALL)
        if lease.holder != self._me and not (self._is_free(lease) and await self._take(lease)):
            return
        step = self._make_scan()
        if lease.reached_at > step.now + _UNEVEN_US:
            await self._set_back()
        if await self._store.read(lambda tx: tx.has_due(step.until), visible=ALL):
            await self._repeat(_Scan.expire)
            await self._repeat(_Scan.seal)
        elif self._monotonic() - self._beaten_s >= _RENEW_EVERY_S:
            await self._write(step.renew)

    async def _repeat(self, decide: Callable[[_Scan, WriteTransaction], int]) -> None:
        """Decide on all that is due, a step at a time."""
        while await self._write(partial(decide, self._make_scan())) == _STEP:  # noqa: ASYNC110 - lets others write
            await asyncio.sleep(_PAUSE_S)

    async def _set_back(self) -> None:
        """Set back the timers that are ahead of a clock that was set back."""
        place: TimerKey | None = None
        while True:
            place = await self._write(partial(self._make_scan().set_back, after=place))
            if place is None:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _write(self, call: Callable[[WriteTransaction], T]) -> T:
        done = await self._store.write(call, visible=ALL)
        self._beaten_s = self._monotonic()
        return done

    def _make_scan(self) -> _Scan:
        """Return a step at this time; the grace begins anew if time did not go on evenly."""
        if not self._clock.is_even():
            self._grace_from = self._clock.now
        return _Scan(holder=self._me, now=self._clock.now, grace_from=self._grace_from)

    def _is_free(self, lease: Lease) -> bool:
        """Tell whether the holder has let go, or has not beaten for too long by our own clock."""
        now_s = self._monotonic()
        if lease != self._other:
            self._other, self._other_since_s = lease, now_s
        return lease.holder == _NOBODY or now_s - self._other_since_s >= _DEAD_AFTER_S

    async def _take(self, lease: Lease) -> bool:
        """Take a free place, unless another is faster."""

        def take(tx: WriteTransaction) -> bool:
            if tx.find_lease() != lease:
                return False
            tx.save_lease(_next_renewal(replace(lease, holder=self._me), tx.now))
            return True

        return await self._store.write(take, visible=ALL)


class _ClockMonitor:
    """Tells whether time goes on evenly: never long between two looks, and alike on both clocks.

    Attributes:
        now: the time of the last look.
    """

    def __init__(
        self, clock: Callable[[], int], monotonic: Callable[[], float], *, max_s: float
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._max_s = max_s
        self._last: tuple[int, float] | None = None
        self.now = 0

    def is_even(self) -> bool:
        """Look at the clocks; False if it was not even since the last look, or is not known."""
        self.now, now_s = self._clock(), self._monotonic()
        last, self._last = self._last, (self.now, now_s)
        if last is None:
            return False
        passed_s = now_s - last[1]
        jumped_us = self.now - last[0] - passed_s * SECOND_US
        return passed_s <= self._max_s and abs(jumped_us) <= _UNEVEN_US

    def forget(self) -> None:
        """Let the next look not be even."""
        self._last = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scan:
    """What the keeper does in one transaction, as of a time before it began.

    Reports that came while it waited for its turn are seen; that time has passed is not.
    A process that does not keep any more does nothing.
    """

    holder: int
    now: int
    grace_from: int

    @property
    def until(self) -> int:
        """What has to be over for a timer to be due."""
        return self.now - _MERGED_US

    def renew(self, tx: WriteTransaction) -> bool:
        """Say that the keeper lives; False if it is another by now."""
        lease = tx.find_lease()
        if lease.holder != self.holder:
            return False
        tx.save_lease(_next_renewal(lease, self.now))
        return True

    def expire(self, tx: WriteTransaction) -> int:
        """Decide on timers that are due, and return on how many."""
        if not self._may_decide(tx):
            return 0
        # Signs of life that another process has merged may have waited for the same lock.
        waited = tx.now - self.now > _MERGED_US
        until = self.now - _LOCKED_US if waited else self.until
        timers = tx.find_timers(until=until, after=None, limit=_STEP)
        silent: dict[BatchName, list[str]] = {}
        for timer in timers:
            due_at = deadline(timer, now=self.now, grace_from=self.grace_from)
            if due_at is None or due_at > until:
                tx.set_timer(timer, heard_at=timer.heard_at, due_at=due_at)
            else:
                silent.setdefault((timer.dataset_id, timer.batch_id), []).append(timer.document_id)
        for name, document_ids in silent.items():
            _give_up(tx, name, document_ids)
        return len(timers)

    def seal(self, tx: WriteTransaction) -> int:
        """Decide on batches that nobody went on with for too long, and return on how many."""
        if not self._may_decide(tx):
            return 0
        idle_batches = tx.find_idle(self.until, _STEP)
        for idle in idle_batches:
            since = max(idle.since, self.grace_from)
            if since + idle.batch.seal_after_us > self.until:
                tx.set_idle_since(idle.batch, since)
            else:
                edit = tx.edit(idle.batch)
                edit.seal()
                tx.save(edit)
        return len(idle_batches)

    def _may_decide(self, tx: WriteTransaction) -> bool:
        # A clock that was set back in the meantime may have given times that look long past.
        return self.renew(tx) and tx.now >= self.now

    def set_back(self, tx: WriteTransaction, *, after: TimerKey | None) -> TimerKey | None:
        """Set back timers behind a place that are ahead, and return the place of the last."""
        if not self.renew(tx):
            return None
        timers = tx.find_timers(until=None, after=after, limit=_STEP)
        for timer in timers:
            due_at = deadline(timer, now=self.now, grace_from=self.grace_from)
            if timer.heard_at > self.now or due_at is None or timer.due_at > due_at:
                tx.set_timer(timer, heard_at=min(timer.heard_at, self.now), due_at=due_at)
        if timers:
            return timers[-1].key
        tx.cap_idle_since(self.now)
        # Only now is it known that nothing is ahead any more, should this process die.
        tx.save_lease(replace(tx.find_lease(), reached_at=self.now))
        return None


def _next_renewal(lease: Lease, now: int) -> Lease:
    """Return the lease a beat later; what the clock has shown is forgotten only by `set_back`."""
    return replace(lease, renewals=lease.renewals + 1, reached_at=max(lease.reached_at, now))


def _give_up(tx: WriteTransaction, name: BatchName, document_ids: Sequence[str]) -> None:
    edit = tx.edit(get_batch(tx, *name))
    documents = tx.find_documents(edit.batch, document_ids)
    for document_id in document_ids:
        document = documents[document_id]
        edit.apply(document, give_up(document, now=edit.now))
    tx.save(edit)
