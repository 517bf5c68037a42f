"""Fixtures that every test may use: a clock, a server in this process, a client of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stagecast.app import App
from stagecast.client import Client
from stagecast.config import Config
from tests.certificates import Authority, Certificate
from tests.clock import Clock


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
        drain_s=1.0,
        linger_s=0.0,
    )


@pytest.fixture
async def server(config: Config, clock: Clock) -> AsyncIterator[App]:
    """A whole server on a fresh file; only its clock is a fake."""
    async with App(config, clock=clock) as app:
        yield app


@pytest.fixture
async def client(server: App) -> AsyncIterator[Client]:
    async with Client(server.grpc_address) as client:
        yield client


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def ours(authority: Authority) -> Certificate:
    """What a server shows."""
    return authority.issue("server")
