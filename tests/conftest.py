"""Fixtures that every test may use: a clock, a server in this process, a client of it."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from tests.certificates import Authority, Certificate
from tests.clock import Clock

# A slow machine is not an error.
settings.register_profile(
    "no_deadline", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no_deadline")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run two tests a core: most of them wait for the disk, a timer or a process."""
    return 2 * len(os.sched_getaffinity(0)) if sys.platform == "linux" else 4


@pytest.fixture(scope="session", autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary files of killed commands where pytest removes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        yield


@pytest.fixture(autouse=True)
def default_signals() -> None:
    """Restore the default handlers of signals, also for commands under test.

    Signals may be ignored where the tests run, as in a background job, or after a server has ended
    in this process.
    """
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dataset_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        db=tmp_path / "stagecast.db",
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        drain_s=30.0,
        linger_s=0.0,
    )


@pytest.fixture
async def server(config: Config, clock: Clock) -> AsyncIterator[App]:
    """A whole server on a fresh file; only its clock is a fake."""
    async with App(config, clock=clock) as app:
        yield app


@pytest.fixture
async def client(server: App) -> AsyncIterator[Stubs]:
    async with Stubs(server.grpc_address) as client:
        yield client


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def ours(authority: Authority) -> Certificate:
    """The certificate of the server."""
    return authority.issue("server")
