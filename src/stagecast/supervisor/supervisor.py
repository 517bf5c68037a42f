"""Several server processes on one file and the same ports, and one that looks after them.

Whatever dies or hangs is replaced. The supervisor serves nothing itself: it holds the ports, so
that nobody else gets them in between, and the pipes, by whose end the processes know that it is
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

from stagecast.client import Backoff
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.listening import held_ports
from stagecast.runtime.descriptors import fit_connections
from stagecast.runtime.event_loop import run
from stagecast.runtime.logs import log_to_stderr
from stagecast.runtime.signals import ignore_stop_signals, on_stop_signals, stop_signals
from stagecast.runtime.stdio import announce
from stagecast.supervisor.process import Ready, serve_under

# Beyond the time to drain: calls that are just arriving, and the last writes and the closing of the
# file, each of which a server waits for in vain if its disk hangs.
_MARGIN_S = 15.0
# Who has lived for so long did not die at once.
_STEADY_S = 10.0

# So many times in a row a process that lives is not missed, however busy the machine is.
_MAX_MISSED = 6

# grpc does not survive a fork.
_spawning = multiprocessing.get_context("spawn")
_log = logging.getLogger(__name__)


def supervise(config: Config, processes: int) -> bool:
    """Run so many servers until told to stop; tell whether all have ended well then.

    Raises:
        StartError: an address or the file cannot be used, or a process died before it was ready.
    """
    _check_directory()
    log_to_stderr(name_process=True)
    with held_ports(fit_connections(config)) as shared:
        try:
            return run(_supervise(shared, processes))
        finally:
            ignore_stop_signals()


def _check_directory() -> None:
    """Return if there is a current directory, which the processes inherit.

    Raises:
        StartError: it was deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise StartError("cannot start processes: the current directory was deleted") from error


async def _supervise(config: Config, processes: int) -> bool:
    places = [_Slot(config) for _ in range(processes)]
    serving = asyncio.create_task(_serve(places))
    # Later signals find the task cancelled, and do nothing.
    on_stop_signals(serving.cancel)
    await asyncio.wait((serving,))
    if serving.cancelled():
        _log.info("told to stop")
    ends = await asyncio.gather(*(place.clear() for place in places))
    if not serving.cancelled():
        await serving  # raises what kept it from starting
    bad_ends = [end for end in ends if end is not None]
    for end in bad_ends:
        _log.error("%s", end)
    return not bad_ends


async def _serve(places: list[_Slot]) -> None:
    """Tell when all processes are ready, and replace those that die; without end."""
    ready, *_ = await asyncio.gather(*(place.fill() for place in places))
    announce(f"stagecast ready grpc={ready.grpc} http={ready.http}")
    await asyncio.gather(*(place.run() for place in places))


class _Slot:
    """A place for one server process at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._server: ServerProcess | None = None

    async def fill(self) -> Ready:
        """Start a process and wait until it is ready.

        Raises:
            StartError: it cannot start, or died.
        """
        self._server = ServerProcess(self._config)
        return await self._server.ready()

    async def run(self) -> None:
        """Replace the process whenever it has died or hangs, without end."""
        backoff = Backoff()
        while True:
            if await self._outlive() >= _STEADY_S:
                backoff.reset()
            await backoff.wait(None)
            try:
                await self._refill()
            except StartError as error:
                _log.error("%s", error)

    async def clear(self) -> str | None:
        """Stop the process, if there is one; return how it ended unless it ended well."""
        if self._server is None:
            return None
        return await self._server.stop(self._config.drain_s + _MARGIN_S)

    async def _refill(self) -> None:
        """Start a process, and kill it if it is not ready in time: the file is up to date by now.

        Raises:
            StartError: it cannot start, or died.
        """
        timeout_s = self._config.replaced_within_s
        try:
            async with asyncio.timeout(timeout_s):
                await self.fill()
        except TimeoutError:
            if self._server:
                _log.error(
                    "process %d is not ready after %g s; killing it", self._server.id, timeout_s
                )
                self._server.kill()

    async def _outlive(self) -> float:
        """Wait until the process is dead; return how many seconds that took."""
        if self._server is None:
            return 0.0
        now = asyncio.get_running_loop().time
        began = now()
        hanging = asyncio.create_task(_kill_if_hung(self._server))
        try:
            how = await self._server.end()
            _log.log(self._server.gravity, "%s; starting another", how)
        finally:
            hanging.cancel()
            await asyncio.wait((hanging,))
        self._server.close()
        self._server = None
        return now() - began


class ServerProcess:
    """A server process, and the supervisor's end of the pipe to it.

    Attributes:
        id: of the process.

    Raises:
        StartError: the system has no room for it.
    """

    def __init__(self, config: Config) -> None:
        self._heartbeat_s = config.process_heartbeat_s
        try:
            self._pipe, theirs = _spawning.Pipe()
            self._process = _spawning.Process(target=serve_under, args=(theirs, config))
            with theirs, _stop_signals_held_back():
                self._process.start()
        except OSError as error:
            raise StartError(f"cannot start a process: {reason_of(error)}") from error
        self.id = self._process.ident

    async def ready(self) -> Ready:
        """Wait until it is ready.

        Raises:
            StartError: what it tells instead, or that it died.
        """
        await _until_readable(self._pipe.fileno())
        try:
            news: Ready | StartError = self._pipe.recv()
        except (EOFError, OSError):
            raise StartError(f"{await self.end()} before it was ready") from None
        if isinstance(news, StartError):
            raise news
        _log.info("process %d is ready", self.id)
        return news

    async def hang(self) -> None:
        """Wait until it has not been heard of for too long, once it was ready.

        Misses are counted, not seconds: who is stopped together with its supervisor is missed once.
        """
        missed = 0
        while missed < _MAX_MISSED:
            missed = 0 if await self._is_alive() else missed + 1

    async def _is_alive(self) -> bool:
        """Wait for as long as it may be silent; return whether it was heard of."""
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await _until_readable(self._pipe.fileno())
            self._pipe.recv()
        except TimeoutError:
            return False
        except (EOFError, OSError):  # about to be dead
            await asyncio.sleep(self._heartbeat_s)
            return False
        return True

    @property
    def gravity(self) -> int:
        """The level at which its end is logged: one that was told to stop has ended well."""
        return logging.ERROR if self._process.exitcode else logging.INFO

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def close(self) -> None:
        """Let go of the pipe to a process that is dead."""
        self._pipe.close()

    async def end(self) -> str:
        """Wait until it is dead; return who died of what."""
        await _until_readable(self._process.sentinel)
        self._process.join()
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"process {self.id} died of signal {-code}, {signal.strsignal(-code)}"
        return f"process {self.id} ended with exit code {code}"

    async def stop(self, timeout_s: float) -> str | None:
        """Tell it to stop, and kill it if it does not; return how it ended unless it ended well."""
        self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                how = await self.end()
        except TimeoutError:
            self.kill()
            how = f"{await self.end()}: it did not stop within {timeout_s:g} s"
        self.close()
        return how if self._process.exitcode else None


async def _kill_if_hung(target: ServerProcess) -> None:
    await target.hang()
    _log.error("process %d hangs; killing it", target.id)
    target.kill()


@contextlib.contextmanager
def _stop_signals_held_back() -> Iterator[None]:
    """Let a process that is started in the block inherit that they wait until it can take them."""
    # Its first use, by whatever is started, would let go of them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _until_readable(descriptor: int) -> None:
    """Wait until there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
