"""The stall detector: finds documents and batches without activity.

Silent documents stall, then fail; documents that no worker starts stall; idle batches are sealed.

Every process runs a detector, and one of them at a time scans: the one that holds the lease in the
store and renews it, as long as there are timers. It reads only timers that are due, by their index,
a few per transaction, and decides within that transaction.

Only time during which a detector ran counts. After a pause in which none ran or the store could not
be written, and after a jump of the clock, everything gets its full grace again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from stagecast.model import ALL, SECOND_US, deadline, give_up
from stagecast.periodic import PeriodicTask
from stagecast.store import (
    BatchName,
    Lease,
    ReadTransaction,
    Store,
    TimerKey,
    Wanted,
    WriteTransaction,
)

_STEP = 300  # timers in one transaction, which blocks other writers
_PAUSE_S = 0.01
_RENEW_EVERY_S = 2.0
_LEASE_S = 6.0  # without a renewal, the holder is dead or hangs
# Up to this, a delay is no pause, and a difference between the clocks no jump.
_TOLERANCE_S = 2.0
_TOLERANCE_US = round(_TOLERANCE_S * SECOND_US)
# Longer than a process buffers heartbeats before it writes them.
_BUFFERED_US = SECOND_US
# Longer than a process waits for the lock of the store, and until it tries again.
_LOCKED_US = 8 * SECOND_US
_NO_HOLDER = 0

T = TypeVar("T")

_Work = tuple[Lease, int | None]
"""The lease, and when something is due."""

_log = logging.getLogger(__name__)


class StallDetector:
    """Scans a store for due timers, alone among the detectors of all processes.

    Args:
        store: the store to scan.
        clock: microseconds since the epoch, the clock of the store's times.
        monotonic: seconds of a clock that never jumps.
        every_s: the interval between two scans.
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
        self._id = random.getrandbits(62) + 1
        self._clock = _ClockMonitor(clock, monotonic, max_s=every_s + _TOLERANCE_S)
        self._work: tuple[int, _Work] | None = None  # as of a version of the store
        self._grace_from = 0
        self._renewed_s = 0.0
        self._observed: Lease | None = None
        self._observed_since_s = 0.0

    async def run(self) -> None:
        """Scan periodically, until cancelled."""
        task = PeriodicTask(_log, "scan for stalled documents")
        while True:
            await task.attempt(self.scan)
            await asyncio.sleep(self._every_s)

    async def scan(self) -> None:
        """Stall, fail and seal everything that is due, if no other detector holds the lease.

        Raises:
            StoreBusy: the store cannot be used now.
        """
        try:
            await self._scan()
        except Exception:
            # Workers may not have been able to write either.
            self._clock.forget()
            raise

    async def release(self) -> None:
        """Give up the lease, so that another process can take it at once.

        Raises:
            StoreBusy: the store cannot be written now.
        """

        def release(tx: WriteTransaction) -> None:
            lease = tx.find_lease()
            if lease.holder == self._id:
                tx.save_lease(replace(lease, holder=_NO_HOLDER))

        await self._store.write(release, visible=ALL)

    async def _scan(self) -> None:
        lease, next_due = await self._find_work()
        is_free = self._is_free(lease)
        if next_due is None and lease.holder != _NO_HOLDER:
            # Nobody needs the lease, and it is not renewed. The first process that sees a timer
            # renews or takes it.
            scan = self._make_scan()  # notes pauses and jumps of the clock
            if self._clock.is_set_back:
                # The lease will not show it, and batches with open documents may be sealed later.
                await self._store.write(lambda tx: tx.cap_idle_since(scan.now), visible=ALL)
            return
        if lease.holder != self._id and not (is_free and await self._take(lease)):
            return
        scan = self._make_scan()
        if lease.reached_at > scan.now + _TOLERANCE_US:
            await self._set_back()
        if next_due is not None and next_due <= scan.until:
            await self._repeat(_Scan.expire)
            await self._repeat(_Scan.seal)
        elif self._monotonic() - self._renewed_s >= _RENEW_EVERY_S:
            await self._write(scan.renew)

    async def _find_work(self) -> _Work:
        """Return the lease, and when something is due; without a read if nobody has committed."""
        version = self._store.version()
        if self._work is None or self._work[0] != version:
            self._work = version, await self._store.read(_find_work, visible=ALL)
        return self._work[1]

    async def _repeat(self, decide: Callable[[_Scan, WriteTransaction], int]) -> None:
        """Decide on everything that is due, step by step."""
        while await self._write(partial(decide, self._make_scan())) == _STEP:  # noqa: ASYNC110 - lets others write
            await asyncio.sleep(_PAUSE_S)

    async def _set_back(self) -> None:
        """Set back timers in the future, after the clock was set back."""
        last: TimerKey | None = None
        while True:
            last = await self._write(partial(self._make_scan().set_back, after=last))
            if last is None:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _write(self, call: Callable[[WriteTransaction], T]) -> T:
        done = await self._store.write(call, visible=ALL)
        self._renewed_s = self._monotonic()
        return done

    def _make_scan(self) -> _Scan:
        """Return a transaction as of now; the grace restarts after a pause or clock jump."""
        if not self._clock.is_steady():
            self._grace_from = self._clock.now
        return _Scan(holder=self._id, now=self._clock.now, grace_from=self._grace_from)

    def _is_free(self, lease: Lease) -> bool:
        """Return whether the lease was released, or has expired by the monotonic clock."""
        now_s = self._monotonic()
        if lease != self._observed:
            self._observed, self._observed_since_s = lease, now_s
        return lease.holder == _NO_HOLDER or now_s - self._observed_since_s >= _LEASE_S

    async def _take(self, lease: Lease) -> bool:
        """Take a free lease; False if another process was faster."""

        def take(tx: WriteTransaction) -> bool:
            if tx.find_lease() != lease:
                return False
            tx.save_lease(_next_renewal(replace(lease, holder=self._id), tx.now))
            return True

        return await self._store.write(take, visible=ALL)


def _find_work(tx: ReadTransaction) -> _Work:
    return tx.find_lease(), tx.find_next_due()


class _ClockMonitor:
    """Detects pauses between two readings, and jumps of the clock against the monotonic one.

    Attributes:
        now: the time of the last reading.
        is_set_back: whether the clock jumped back before it.
    """

    def __init__(
        self, clock: Callable[[], int], monotonic: Callable[[], float], *, max_s: float
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._max_s = max_s
        self._last: tuple[int, float] | None = None
        self.now = 0
        self.is_set_back = False

    def is_steady(self) -> bool:
        """Read the clocks; False after a pause or a jump, and at the first reading."""
        self.now, now_s = self._clock(), self._monotonic()
        last, self._last = self._last, (self.now, now_s)
        if last is None:
            self.is_set_back = False
            return False
        passed_s = now_s - last[1]
        jumped_us = self.now - last[0] - passed_s * SECOND_US
        self.is_set_back = jumped_us < -_TOLERANCE_US
        return passed_s <= self._max_s and abs(jumped_us) <= _TOLERANCE_US

    def forget(self) -> None:
        """Make the next reading the first."""
        self._last = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scan:
    """One transaction of a scan, as of a time before it began.

    It sees reports that were written while it waited for the lock; time that passed meanwhile does
    not count. Without the lease it does nothing.
    """

    holder: int
    now: int
    grace_from: int

    @property
    def until(self) -> int:
        """The latest due time of timers to decide on."""
        return self.now - _BUFFERED_US

    def renew(self, tx: WriteTransaction) -> bool:
        """Renew the lease; False if another process holds it."""
        lease = tx.find_lease()
        if lease.holder != self.holder:
            return False
        tx.save_lease(_next_renewal(lease, self.now))
        return True

    def expire(self, tx: WriteTransaction) -> int:
        """Decide on timers that are due, and return how many there were."""
        if not self._may_decide(tx):
            return 0
        # Heartbeats that another process has buffered may have waited for the same lock.
        waited = tx.now - self.now > _BUFFERED_US
        until = self.now - _LOCKED_US if waited else self.until
        timers = tx.find_timers(until=until, after=None, limit=_STEP)
        silent: dict[BatchName, list[str]] = {}
        for timer in timers:
            due_at = deadline(timer, now=self.now, grace_from=self.grace_from)
            if due_at is None or due_at > until:
                tx.set_timer(timer, heard_at=timer.heard_at, due_at=due_at)
            else:
                silent.setdefault((timer.dataset_id, timer.batch_id), []).append(timer.document_id)
        edits = tx.edit({name: Wanted(document_ids=ids) for name, ids in silent.items()})
        for edit in edits:
            for document in [*edit.documents.values()]:
                edit.apply(document, give_up(document, now=edit.now))
        tx.save(*edits)
        return len(timers)

    def seal(self, tx: WriteTransaction) -> int:
        """Decide on idle batches, and return how many there were."""
        if not self._may_decide(tx):
            return 0
        idle_batches = tx.find_idle(self.until, _STEP)
        due: dict[BatchName, Wanted] = {}
        for idle in idle_batches:
            since = max(idle.since, self.grace_from)
            if since + idle.batch.seal_after_us > self.until:
                tx.set_idle_since(idle.batch, since)
            else:
                due[idle.batch.dataset_id, idle.batch.batch_id] = Wanted()
        edits = tx.edit(due)
        for edit in edits:
            edit.seal()
        tx.save(*edits)
        return len(idle_batches)

    def _may_decide(self, tx: WriteTransaction) -> bool:
        # If the clock was set back meanwhile, new times may look long past.
        return self.renew(tx) and tx.now >= self.now

    def set_back(self, tx: WriteTransaction, *, after: TimerKey | None) -> TimerKey | None:
        """Set back future timers after a key, and return the last key; `None` at the end."""
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
        # Last, in case this process dies: only now is no timer in the future.
        tx.save_lease(replace(tx.find_lease(), reached_at=self.now))
        return None


def _next_renewal(lease: Lease, now: int) -> Lease:
    """Return the renewed lease; only `set_back` lowers `reached_at`."""
    return replace(lease, renewals=lease.renewals + 1, reached_at=max(lease.reached_at, now))
