"""Messages when the limit of open files is reached, also where SQLite does not name the cause."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from grpc import aio
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.certificates import read_pair
from stagecast.cli.errors import describe
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.demo.stages import IngestionError, parse, scratch
from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.listening import check_ports
from stagecast.store.sqlite import SqliteStore, copy_file, inspect_file, list_keys
from stagecast.tls import load_tls
from stagecast.v1 import status_service_pb2 as ss
from tests.builders import ENCODER
from tests.certificates import Certificate
from tests.process import free_address


@contextlib.contextmanager
def files_left(number: int) -> Iterator[str]:
    """Allow so many more open files during the block; yield the expected message."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + number, hard))
    try:
        yield f"the limit of open files, {free + number}, is reached; raise it with 'ulimit -n'"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _open_store(path: Path) -> None:
    SqliteStore(
        path, clock=int, encoder=ENCODER, on_commit=lambda _: None, on_foreign_commit=lambda: None
    )


def _make_tls(config: Config) -> None:
    load_tls(config)


@pytest.fixture
async def used(config: Config) -> Config:
    """Settings of a server that has stopped."""
    async with App(config):
        return config


@pytest.mark.parametrize(
    ("use", "left"), [(_open_store, 0), (_open_store, 1), (inspect_file, 0), (list_keys, 0)]
)
async def test_store_names_the_limit_of_open_files(
    used: Config, use: Callable[[Path], object], left: int
) -> None:
    with files_left(left) as message, pytest.raises(StartError) as failed:
        use(used.db)
    assert str(failed.value).endswith(message)


@pytest.mark.parametrize("left", range(5))
async def test_copy_names_the_limit_of_open_files(used: Config, tmp_path: Path, left: int) -> None:
    with files_left(left) as message, pytest.raises(StartError) as failed:
        copy_file(used.db, tmp_path / "copy.db", overwrite=False)
    assert str(failed.value).endswith(message)
    assert not (tmp_path / "copy.db").exists()


def test_tls_files_and_ports_name_the_limit_of_open_files(
    config: Config, ours: Certificate
) -> None:
    secured = dataclasses.replace(config, tls_cert=ours.cert, tls_key=ours.key)
    for left, use in (
        (0, partial(read_pair, ours.cert, ours.key)),
        (1, partial(_make_tls, secured)),
        (0, partial(check_ports, config)),
    ):
        with files_left(left) as message, pytest.raises(StartError) as failed:
            use()
        assert str(failed.value).endswith(message)


def test_text_of_the_demo_names_the_limit_of_open_files() -> None:
    with scratch() as parsed, files_left(0) as message, pytest.raises(IngestionError) as failed:
        parse(Path(__file__), parsed)
    assert str(failed.value) == message


async def test_call_names_the_limit_of_open_files() -> None:
    address = free_address()
    async with Stubs(address) as client:
        with files_left(0), pytest.raises(aio.AioRpcError) as failed:
            await client.status.ListDatasets(ss.ListDatasetsRequest(), timeout=60)
        with files_left(0) as message:
            line = describe(failed.value, address, tls=False)
    assert line == f"cannot reach {address}: {message}"


def test_limit_of_the_whole_system_is_named_as_such() -> None:
    error = OSError(errno.ENFILE, os.strerror(errno.ENFILE))
    assert reason_of(error) == "the limit of open files of the whole system is reached"


def test_limit_is_not_blamed_for_another_failure() -> None:
    for error, message in (
        (sqlite3.OperationalError("unable to open database file"), "unable to open database file"),
        (OSError(errno.EACCES, "Permission denied", "a.db"), "Permission denied"),
        (OSError(None, "it has no end"), "it has no end"),
        (OSError("no number"), "no number"),
    ):
        assert reason_of(error) == message
    with files_left(0):
        assert reason_of(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
