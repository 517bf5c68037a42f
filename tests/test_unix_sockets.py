"""Servers on unix sockets: the file at the path before, during and after."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest
from grpc import aio

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.v1 import status_service_pb2 as s
from tests.certificates import Authority, Certificate
from tests.cli.command import stagecast, started
from tests.process import running

LIST = s.ListDatasetsRequest()
PROTOCOLS = ["grpc", "http"]


@pytest.fixture
def sockets(config: Config, tmp_path: Path) -> Config:
    """Settings of a server whose gRPC and HTTP are on unix sockets."""
    return dataclasses.replace(config, grpc=f"unix:{tmp_path}/g", http=f"unix:{tmp_path}/h")


async def get(address: str, path: str) -> bytes:
    """Send an HTTP request and return the answer."""
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def start_error(config: Config) -> str:
    """Return the error of a server that does not start."""
    with pytest.raises(StartError) as refusal:
        async with App(config):
            pass
    return str(refusal.value)


def at(config: Config, protocol: str, address: str) -> Config:
    if protocol == "grpc":
        return dataclasses.replace(config, grpc=address)
    return dataclasses.replace(config, http=address)


async def test_grpc_and_http_are_served_and_the_files_removed_at_the_end(
    sockets: Config, tmp_path: Path
) -> None:
    async with App(sockets) as server:
        assert (server.grpc_address, server.http_address) == (sockets.grpc, sockets.http)
        async with Stubs(server.grpc_address) as client:
            await client.status.ListDatasets(LIST)
        assert (await get(server.http_address, "/healthz")).startswith(b"HTTP/1.1 200 ")
        actual = {path.name for path in tmp_path.iterdir() if path.is_socket()}
        assert actual == {"g", "h"}
    assert not [path for path in tmp_path.iterdir() if path.is_socket()]


async def test_ready_line_names_absolute_paths_and_no_key_is_needed(tmp_path: Path) -> None:
    """As on loopback."""
    where = ("--grpc", f"unix://{tmp_path}/g", "--http", f"unix:{tmp_path}/../{tmp_path.name}/h")
    async with started("serve", "--db", tmp_path / "s.db", *where) as server:
        ready = await server.line()
        assert ready == f"stagecast ready grpc=unix:{tmp_path}/g http=unix:{tmp_path}/h\n"
        ended = await stagecast("batches", STAGECAST_GRPC=f"unix:{tmp_path}/g")
        assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_socket_of_a_running_server_is_not_replaced(
    sockets: Config, tmp_path: Path, protocol: str
) -> None:
    async with App(sockets):
        other = Config(db=tmp_path / "other.db", grpc="127.0.0.1:0", http="127.0.0.1:0")
        start = at(other, protocol, getattr(sockets, protocol))
        assert (await start_error(start)).endswith(
            f"{getattr(sockets, protocol)}: Address already in use; stop the program that listens "
            f"there, or use another address with --{protocol}"
        )
        async with Stubs(sockets.grpc) as client:
            await client.status.ListDatasets(LIST)
        assert (await get(sockets.http, "/healthz")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
async def test_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    where = {"grpc": f"unix:{tmp_path}/g", "http": f"unix:{tmp_path}/h"}
    for _ in range(2):
        async with running(tmp_path / "s.db", **where) as server:
            async with Stubs(server.grpc) as client:
                await client.status.ListDatasets(LIST)
            await server.kill()
        assert (tmp_path / "g").is_socket()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_file_that_is_not_a_socket_is_never_removed(
    sockets: Config, tmp_path: Path, protocol: str, kind: str
) -> None:
    there = tmp_path / "there"
    if kind == "file":
        there.write_text("kept")
    elif kind == "folder":
        there.mkdir()
    else:
        there.symlink_to(tmp_path / "elsewhere")
    error = await start_error(at(sockets, protocol, f"unix:{there}"))
    assert error.endswith("there: the file exists and is not a socket")
    assert there.is_symlink() or there.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_error_names_protocol_path_and_reason(
    sockets: Config, tmp_path: Path, protocol: str
) -> None:
    name = {"grpc": "gRPC", "http": "HTTP"}[protocol]
    missing = f"unix:{tmp_path}/missing/x"
    error = await start_error(at(sockets, protocol, missing))
    assert error == f"cannot listen for {name} on {missing}: No such file or directory"
    error = await start_error(at(sockets, protocol, f"unix:{tmp_path}/{'x' * 107}"))
    assert "is too long for a socket: " in error


async def test_longest_possible_path_is_accepted(sockets: Config, tmp_path: Path) -> None:
    name = "x" * (107 - len(str(tmp_path)) - 1)
    longest = f"unix:{tmp_path}/{name}"
    async with App(at(sockets, "grpc", longest)), Stubs(longest) as client:
        await client.status.ListDatasets(LIST)


@pytest.mark.parametrize("start", ["a", "ab"])
async def test_short_path_works_beside_files_with_short_names(
    sockets: Config, tmp_path: Path, start: str
) -> None:
    for first in "0123456789abcdef":
        for second in "0123456789abcdef":
            (tmp_path / f".{first}{second}").touch()
    config = dataclasses.replace(sockets, grpc=f"unix:{tmp_path}/{start}")
    async with App(config):
        assert (tmp_path / start).is_socket()


async def test_file_replaced_by_another_server_stays(sockets: Config, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        async with App(sockets):
            (tmp_path / "g").unlink()
            other.bind(str(tmp_path / "g"))
        assert (tmp_path / "g").is_socket()
        assert not (tmp_path / "h").exists()


async def test_callers_over_a_socket_count_as_one(sockets: Config) -> None:
    config = dataclasses.replace(sockets, max_watches_per_caller=1)
    async with App(config), Stubs(config.grpc) as one, Stubs(config.grpc) as two:
        watch = one.status.WatchDatasets(s.WatchDatasetsRequest())
        await watch.read()
        with pytest.raises(aio.AioRpcError, match="too many watches of one caller"):
            await two.status.WatchDatasets(s.WatchDatasetsRequest()).read()


async def test_tls_works_over_sockets_with_a_certificate_for_localhost(
    sockets: Config, authority: Authority, ours: Certificate
) -> None:
    config = dataclasses.replace(sockets, tls_cert=ours.cert, tls_key=ours.key)
    async with App(config), Stubs(config.grpc, ca=authority.ca) as client:
        await client.status.ListDatasets(LIST)
        curl = ("curl", "--silent", "--cacert", authority.ca, "--unix-socket", config.http[5:])
        process = await asyncio.create_subprocess_exec(
            *map(str, curl), "https://localhost/healthz", stdout=asyncio.subprocess.PIPE
        )
        assert (await process.communicate())[0] == b'{"alive":true}'


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_several_processes_on_a_socket_are_refused(tmp_path: Path, protocol: str) -> None:
    where = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", protocol: f"unix:{tmp_path}/x"}
    ended = await stagecast(
        "serve", "--db", tmp_path / "s.db", "--processes", "2",
        *("--grpc", where["grpc"], "--http", where["http"]),
    )  # fmt: skip
    assert ended.code == 2
    assert "unix sockets cannot be shared" in ended.err
    assert not list(tmp_path.iterdir())


async def test_grpc_and_http_cannot_use_one_socket(tmp_path: Path) -> None:
    same = f"unix:{tmp_path}/x"
    ended = await stagecast("serve", "--db", tmp_path / "s.db", "--grpc", same, "--http", same)
    assert (ended.code, ended.err) == (1, f"Error: gRPC and HTTP cannot both listen on {same}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
async def test_demo_uses_a_server_on_a_socket(tmp_path: Path) -> None:
    async with running(tmp_path / "s.db", grpc=f"unix:{tmp_path}/g") as server:
        ended = await stagecast(
            *("demo", "--grpcurl", "--grpc", server.grpc, "--http", server.http),
            TMPDIR=str(tmp_path),
        )
        assert (ended.code, ended.err) == (0, "")
        assert f" --grpc {server.grpc}\n" in ended.out
        assert f"grpcurl -plaintext -unix {tmp_path}/g list\n" in ended.out
        ended = await stagecast("demo", "--grpc", server.grpc, "--http", server.grpc)
    assert ended.code == 2
    assert f"{server.grpc} cannot be used in a URL; use HOST:PORT" in " ".join(ended.err.split())
