"""`stagecast` with a disk that hangs once the process is sent SIGUSR1, until it ends.

A hanging disk is imitated by store threads that do not return. Processes under a supervisor import
this module as well.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from typing import Self

import stagecast.cli.serve
import stagecast.supervisor.process
from stagecast.__main__ import main
from stagecast.model import ALL
from stagecast.store.sqlite import store as sqlite_store
from tests.conditions import until
from tests.faults import OpenApp

HANGS = "the disk hangs"


class _HangingApp(OpenApp):
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._begin_to_hang)
        return self

    def _begin_to_hang(self) -> None:
        self._hanging = asyncio.create_task(self._hang())

    async def _hang(self) -> None:
        begun = threading.Semaphore(0)

        def hang(_: object) -> None:
            begun.release()
            threading.Event().wait()

        reads = (self.store.read(hang, visible=ALL) for _ in range(sqlite_store._READERS))
        self._calls = asyncio.gather(self.store.write(hang, visible=ALL), *reads)
        for _ in range(1 + sqlite_store._READERS):
            await until(lambda: begun.acquire(blocking=False))
        logging.getLogger(__name__).warning(HANGS)


for module in (stagecast.supervisor.process, stagecast.cli.serve):
    vars(module).update(App=_HangingApp)

if __name__ == "__main__":
    main()
