"""Retention: trims the history of ended batches, and deletes ended batches.

An open batch keeps its whole history, so its watches never lose their place. An ended batch loses
its oldest transitions first; the last one stays as long as the batch.

Every process runs this. Each transaction selects the rows that are left, so nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from stagecast.config import Config
from stagecast.model import ALL, SECOND_US
from stagecast.periodic import PeriodicTask
from stagecast.store import HistoryLimit, Store, WriteTransaction

# Limits of one transaction, which blocks other writers, and the pause in which they write.
_ROWS = 1_000
_BATCHES = 100
_PAUSE_S = 0.01
# The minimum, whatever is configured: for watches of the end of a batch, and for snapshots that
# are being read as of an earlier revision.
MIN_RETENTION_S = 600.0

_log = logging.getLogger(__name__)


class Retention:
    """Applies the retention settings.

    Args:
        store: the store to trim.
        config: what to retain, and how often to run.
        clock: microseconds since the epoch, the clock of the store's times.
        on_deleted: called when batches were deleted and their rows remain to be swept.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: Config,
        clock: Callable[[], int],
        on_deleted: Callable[[], None],
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._on_deleted = on_deleted

    async def run(self) -> None:
        """Run periodically, until cancelled; return at once if everything is retained."""
        config = self._config
        limits = (config.retain_history_s, config.retain_transitions, config.retain_batches_s)
        task = PeriodicTask(_log, "apply retention")
        while any(limit is not None for limit in limits):
            await task.attempt(self.run_once)
            await asyncio.sleep(config.retain_every_s)

    async def run_once(self) -> None:
        """Delete and trim everything past retention, in small steps.

        Raises:
            StoreBusy: the store cannot be used now.
        """
        if self._config.retain_batches_s is not None:
            await self._delete(self._ended_until(self._config.retain_batches_s))
        for limit in self._limits():
            await self._trim(limit)

    def _limits(self) -> Iterator[HistoryLimit]:
        config = self._config
        if config.retain_history_s is not None:
            yield HistoryLimit(ended_until=self._ended_until(config.retain_history_s), keep=1)
        if config.retain_transitions is not None:
            yield HistoryLimit(ended_until=self._ended_until(0), keep=config.retain_transitions)

    def _ended_until(self, age_s: float) -> int:
        """Return the latest end time of batches of this age, at least of the minimum age."""
        return self._clock() - round(max(age_s, MIN_RETENTION_S) * SECOND_US)

    async def _delete(self, ended_until: int) -> None:
        def delete(tx: WriteTransaction) -> int:
            batches = tx.find_ended(ended_until, _BATCHES)
            tx.delete_batches(batches)
            return len(batches)

        while await self._store.read(lambda tx: tx.find_ended(ended_until, 1), visible=ALL):
            deleted = await self._step(delete)
            self._on_deleted()
            _log.info("batches deleted by retention: %d", deleted)

    async def _trim(self, limit: HistoryLimit) -> None:
        trimmed = 0
        while await self._store.read(lambda tx: tx.has_excess(limit), visible=ALL):
            trimmed += await self._step(lambda tx: tx.trim(limit, _ROWS))
        if trimmed:
            _log.info("transitions trimmed by retention: %d", trimmed)

    async def _step(self, step: Callable[[WriteTransaction], int]) -> int:
        done = await self._store.write(step, visible=ALL)
        await asyncio.sleep(_PAUSE_S)
        return done
