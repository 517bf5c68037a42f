"""What is let go after a time: the history of batches that have ended, and such batches as a whole.

A batch that is open keeps everything, so whoever watches it is never left behind. Of one that has
ended the older transitions go first; the last one stays for as long as the batch does.

Each process looks, and each transaction finds what is left: nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from stagecast.config import Config
from stagecast.model import ALL, SECOND_US
from stagecast.periodic import PeriodicTask
from stagecast.store import HistoryLimit, Store, WriteTransaction

# What goes in one transaction, which other writers wait for, and the pause in which they write.
_ROWS = 1_000
_BATCHES = 100
_PAUSE_S = 0.01
# Whatever is asked for, a batch that has ended stays whole for so long: for those who watch its
# end, and for snapshots that are being read as of a revision before it.
MIN_RETENTION_S = 600.0

_log = logging.getLogger(__name__)


class Retention:
    """Lets go of what the settings do not keep.

    Args:
        store: where everything is.
        config: what to keep, and how often to look.
        clock: microseconds since the epoch, of which the store's times are.
        on_deleted: called when batches have vanished, whose rows are to be swept.
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
        """Look from time to time, until cancelled; return at once if everything is kept."""
        config = self._config
        retained = (config.retain_history_s, config.retain_transitions, config.retain_batches_s)
        task = PeriodicTask(_log, "let go of what is not kept")
        while any(limit is not None for limit in retained):
            await task.attempt(self.run_once)
            await asyncio.sleep(config.retain_every_s)

    async def run_once(self) -> None:
        """Let go of all that is not kept any more, in small steps.

        Raises:
            StoreBusy: the store cannot be used now.
        """
        if self._config.retain_batches_s is not None:
            await self._delete(self._before(self._config.retain_batches_s))
        for limit in self._limits():
            await self._trim(limit)

    def _limits(self) -> Iterator[HistoryLimit]:
        config = self._config
        if config.retain_history_s is not None:
            yield HistoryLimit(ended_until=self._before(config.retain_history_s), keep=1)
        if config.retain_transitions is not None:
            yield HistoryLimit(ended_until=self._before(0), keep=config.retain_transitions)

    def _before(self, age_s: float) -> int:
        """Return until when a batch has to have ended to be so old, and settled."""
        return self._clock() - round(max(age_s, MIN_RETENTION_S) * SECOND_US)

    async def _delete(self, ended_until: int) -> None:
        def delete(tx: WriteTransaction) -> int:
            batches = tx.find_ended(ended_until, _BATCHES)
            for batch in batches:
                tx.delete_batch(batch)
            return len(batches)

        while await self._store.read(lambda tx: tx.find_ended(ended_until, 1), visible=ALL):
            deleted = await self._step(delete)
            self._on_deleted()
            _log.info("batches that are not kept any more: %d", deleted)

    async def _trim(self, limit: HistoryLimit) -> None:
        trimmed = 0
        while await self._store.read(lambda tx: tx.has_excess(limit), visible=ALL):
            trimmed += await self._step(lambda tx: tx.trim(limit, _ROWS))
        if trimmed:
            _log.info("transitions that are not kept any more: %d", trimmed)

    async def _step(self, step: Callable[[WriteTransaction], int]) -> int:
        done = await self._store.write(step, visible=ALL)
        await asyncio.sleep(_PAUSE_S)
        return done
