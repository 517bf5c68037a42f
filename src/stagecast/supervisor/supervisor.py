"""Several server processes on one file and the same ports, and their supervisor.

Processes that die or hang are replaced. The supervisor serves nothing itself: it holds the ports,
so that no other program gets them meanwhile, and a pipe to each process, whose end tells that the
supervisor is gone.
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

# In addition to the time to drain: for arriving calls, the last writes and closing the file, which
# block if the disk hangs.
_MARGIN_S = 15.0
# A process that lives for so long resets the backoff.
_STABLE_S = 10.0

# Missed heartbeats in a row; a busy machine does not cause that many.
_MAX_MISSED = 6

# grpc does not survive a fork.
_spawning = multiprocessing.get_context("spawn")
_log = logging.getLogger(__name__)


def supervise(config: Config, processes: int) -> bool:
    """Run server processes until a stop signal; return whether all then exited with 0.

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
    """Check that the current directory exists, as processes inherit it.

    Raises:
        StartError: it was deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise StartError("cannot start processes: the current directory was deleted") from error


async def _supervise(config: Config, processes: int) -> bool:
    slots = [_Slot(config) for _ in range(processes)]
    serving = asyncio.create_task(_serve(slots))
    # Later signals have no effect on a cancelled task.
    on_stop_signals(serving.cancel)
    await asyncio.wait((serving,))
    if serving.cancelled():
        _log.info("received a stop signal")
    ends = await asyncio.gather(*(slot.clear() for slot in slots))
    if not serving.cancelled():
        await serving  # raises the error of the start
    bad_ends = [end for end in ends if end is not None]
    for end in bad_ends:
        _log.error("%s", end)
    return not bad_ends


async def _serve(slots: list[_Slot]) -> None:
    """Print the ready line when all processes are ready; replace dead ones for ever."""
    ready, *_ = await asyncio.gather(*(slot.fill() for slot in slots))
    announce(f"stagecast ready grpc={ready.grpc} http={ready.http}")
    await asyncio.gather(*(slot.run() for slot in slots))


class _Slot:
    """A slot for one server process at a time."""

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
        """Replace the process whenever it dies or hangs, for ever."""
        backoff = Backoff()
        while True:
            if await self._wait_for_end() >= _STABLE_S:
                backoff.reset()
            await backoff.wait(None)
            try:
                await self._refill()
            except StartError as error:
                _log.error("%s", error)

    async def clear(self) -> str | None:
        """Stop the process, if any; return a message unless it exited with 0."""
        if self._server is None:
            return None
        return await self._server.stop(self._config.drain_s + _MARGIN_S)

    async def _refill(self) -> None:
        """Start a process, and kill it if it is not ready in time: the file is migrated by now.

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

    async def _wait_for_end(self) -> float:
        """Wait for the end of the process; return how many seconds it lived."""
        if self._server is None:
            return 0.0
        now = asyncio.get_running_loop().time
        began = now()
        watchdog = asyncio.create_task(_kill_if_hung(self._server))
        try:
            how = await self._server.end()
            _log.log(self._server.log_level, "%s; starting another", how)
        finally:
            watchdog.cancel()
            await asyncio.wait((watchdog,))
        self._server.close()
        self._server = None
        return now() - began


class ServerProcess:
    """A server process, and the supervisor's end of the pipe to it.

    Args:
        config: of the server.
        log_level: the lowest level of what it logs.

    Attributes:
        id: of the process.

    Raises:
        StartError: the system cannot start it.
    """

    def __init__(self, config: Config, *, log_level: int = logging.INFO) -> None:
        self._heartbeat_s = config.process_heartbeat_s
        try:
            self._pipe, child_end = _spawning.Pipe()
            self._process = _spawning.Process(
                target=serve_under, args=(child_end, config, log_level)
            )
            with child_end, _stop_signals_blocked():
                self._process.start()
        except OSError as error:
            raise StartError(f"cannot start a process: {reason_of(error)}") from error
        self.id = self._process.ident

    async def ready(self) -> Ready:
        """Wait until it is ready.

        Raises:
            StartError: its own error, or that it died.
        """
        await _until_readable(self._pipe.fileno())
        try:
            message: Ready | StartError = self._pipe.recv()
        except (EOFError, OSError):
            raise StartError(f"{await self.end()} before it was ready") from None
        if isinstance(message, StartError):
            raise message
        _log.info("process %d is ready", self.id)
        return message

    async def wait_until_hung(self) -> None:
        """Wait until too many heartbeats in a row are missing, once it was ready.

        Heartbeats are counted, not seconds: a process that is stopped together with its supervisor
        misses one.
        """
        missed = 0
        while missed < _MAX_MISSED:
            missed = 0 if await self._is_alive() else missed + 1

    async def _is_alive(self) -> bool:
        """Wait for the next heartbeat; return whether it came in time."""
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await _until_readable(self._pipe.fileno())
            self._pipe.recv()
        except TimeoutError:
            return False
        except (EOFError, OSError):  # it is about to end
            await asyncio.sleep(self._heartbeat_s)
            return False
        return True

    @property
    def log_level(self) -> int:
        """The level at which its end is logged; an exit with 0 is no error."""
        return logging.ERROR if self._process.exitcode else logging.INFO

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def close(self) -> None:
        """Close the pipe to a dead process."""
        self._pipe.close()

    async def end(self) -> str:
        """Wait for its end; return its id and exit code or signal."""
        await _until_readable(self._process.sentinel)
        self._process.join()
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"process {self.id} died of signal {-code}, {signal.strsignal(-code)}"
        return f"process {self.id} ended with exit code {code}"

    async def stop(self, timeout_s: float) -> str | None:
        """Stop it, or kill it after the timeout; return a message unless it exited with 0."""
        self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                how = await self.end()
        except TimeoutError:
            self.kill()
            how = f"{await self.end()}: it did not stop within {timeout_s:g} s"
        self.close()
        return how if self._process.exitcode else None


async def _kill_if_hung(server: ServerProcess) -> None:
    await server.wait_until_hung()
    _log.error("process %d hangs; killing it", server.id)
    server.kill()


@contextlib.contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Block stop signals in a process started in the block until it can handle them."""
    # Its first use, by starting a process, would unblock them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _until_readable(descriptor: int) -> None:
    """Wait until there is data to read, or the end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
