"""A client without a loop, on several loops, and with invalid addresses, keys and files."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

import stagecast
from stagecast.client import Stubs
from stagecast.v1 import status_service_pb2 as s
from tests.certificates import Authority, Certificate
from tests.process import ServerProcess, running

LIST = s.ListDatasetsRequest()
CERTIFICATE, KEY = "holds no certificate in PEM", "holds no private key in PEM"


@pytest.fixture
async def other_process(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server in another process, independent of the loops of this one."""
    async with running(tmp_path / "s.db") as server:
        yield server


@pytest.mark.parametrize("entered", [False, True])
async def test_client_is_created_without_a_loop_and_used_on_several(
    other_process: ServerProcess, entered: bool
) -> None:
    client = Stubs(other_process.grpc)

    async def use() -> int:
        if entered:
            async with client:
                answer = await client.status.ListDatasets(LIST)
        else:
            answer = await client.status.ListDatasets(LIST)
        if entered:
            with pytest.raises(aio.UsageError):
                await client.status.ListDatasets(LIST)
        return len(answer.datasets)

    for _ in range(3):
        assert await asyncio.to_thread(asyncio.run, use()) == 0


async def test_entering_the_block_does_not_disturb_calls_under_way(
    other_process: ServerProcess,
) -> None:
    client = Stubs(other_process.grpc)
    watch = client.status.WatchDatasets(s.WatchDatasetsRequest())
    await watch.read()
    async with client:
        await client.status.ListDatasets(LIST)
        assert not watch.done()
        watch.cancel()


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("http://127.0.0.1:50051", "; type 127.0.0.1:50051"),
        ("https://status.example.org:443/v1", "; type status.example.org:443"),
        ("dns:///status:50051", "; type status:50051"),
        ("ipv4:127.0.0.1:50051", "or unix:PATH"),
        ("localhost", "or unix:PATH"),
        ("status:99999", "with a port up to 65535"),
        ("a:1,b:2", "or unix:PATH"),
        ("me@status:1", "or unix:PATH"),
        ("status%41:1", "or unix:PATH"),
        ("127.0.0.1:0", "has port 0"),
        ("unix:", "is not unix:PATH"),
        ("unix:/a\nb", "is not unix:PATH"),
        ("unix-abstract:a", "or unix:PATH"),
    ],
)
def test_address_that_grpc_would_misread_is_refused(address: str, advice: str) -> None:
    with pytest.raises(ValueError, match=r"is not|has port") as refusal:
        Stubs(address)
    assert repr(address) in str(refusal.value)
    assert advice in str(refusal.value)


@pytest.mark.parametrize("key", ["caf\u00e9", "a\nb", "a\x00", "\ud800"])
def test_key_invalid_in_a_header_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="only printable ASCII characters are allowed") as refusal:
        Stubs("127.0.0.1:50051", key=key)
    assert key not in str(refusal.value)


@pytest.mark.parametrize("timeout", [0, -1, "soon", float("nan"), float("inf")])
def test_timeout_that_is_not_a_positive_number_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match=f"invalid timeout {timeout!r}; use a "):
        stagecast.Client(timeout=timeout)


@pytest.fixture
def files(tmp_path: Path, authority: Authority, ours: Certificate) -> dict[str, Path]:
    """Files by what is in them."""
    made = {
        "ca": authority.ca,
        "cert": ours.cert,
        "key": ours.key,
        "other": authority.issue("other").key,
        "empty": tmp_path / "empty",
        "text": tmp_path / "text",
        "half": tmp_path / "half",
    }
    made["empty"].write_bytes(b"")
    made["text"].write_text("no PEM at all")
    made["half"].write_bytes(authority.ca.read_bytes()[:200])
    return made


@pytest.mark.parametrize(
    ("ca", "cert", "key", "bad_file", "reason"),
    [
        *((bad, "", "", bad, CERTIFICATE) for bad in ("empty", "text", "half", "key")),
        ("", "text", "key", "text", CERTIFICATE),
        ("", "key", "cert", "key", CERTIFICATE),
        ("", "cert", "text", "text", KEY),
        ("", "cert", "cert", "cert", KEY),
        ("", "cert", "other", "other", "does not match the certificate in"),
    ],
)
def test_error_names_the_file_without_certificate_or_key(
    files: dict[str, Path], ca: str, cert: str, key: str, bad_file: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        Stubs("127.0.0.1:50051", ca=files.get(ca), cert=files.get(cert), cert_key=files.get(key))
    assert f"{files[bad_file]} " in str(refusal.value)


def test_file_may_be_in_utf_16(tmp_path: Path, authority: Authority) -> None:
    wide = tmp_path / "wide"
    wide.write_text(authority.ca.read_text(), "utf-16")
    Stubs("127.0.0.1:50051", ca=wide)


async def test_files_may_have_a_byte_order_mark_and_crlf(
    tmp_path: Path, authority: Authority, ours: Certificate
) -> None:
    tls = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    strict = (*tls, "--tls-client-ca", str(authority.ca))
    mine = authority.issue("mine")
    for path in (authority.ca, mine.cert, mine.key):
        text = path.read_text()
        (tmp_path / f"{path.name}.bom").write_bytes(
            b"\xef\xbb\xbf" + f"Comment: \u00e4\n{text}".replace("\n", "\r\n").encode()
        )
    async with (
        running(tmp_path / "s.db", *strict) as server,
        Stubs(
            server.grpc,
            ca=tmp_path / f"{authority.ca.name}.bom",
            cert=tmp_path / f"{mine.cert.name}.bom",
            cert_key=tmp_path / f"{mine.key.name}.bom",
        ) as client,
    ):
        assert not (await client.status.ListDatasets(LIST)).datasets


def test_each_client_has_a_connection_of_its_own() -> None:
    """So a new client does not fail because another one waits before it reconnects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        clients = [stagecast.Client(address, timeout=60) for _ in range(2)]
        threads = [threading.Thread(target=_call, args=[client]) for client in clients]
        for thread in threads:
            thread.start()
        connections = [listener.accept()[0] for _ in clients]
        for connection in connections:
            connection.close()
        for client, thread in zip(clients, threads, strict=True):
            client.close()
            thread.join()


def _call(client: stagecast.Client) -> None:
    with pytest.raises((stagecast.StagecastError, RuntimeError)):
        client.get_dataset("handbook")


async def test_host_named_dns_is_not_read_as_a_scheme(other_process: ServerProcess) -> None:
    port = other_process.grpc.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1"):
        async with Stubs(f"{host}:{port}") as client:
            await client.status.ListDatasets(LIST)
    # A host of that name, not the scheme of grpc.
    async with Stubs(f"dns:{port}") as client:
        with pytest.raises(aio.AioRpcError, match="dns"):
            await client.status.ListDatasets(LIST)


async def test_unix_socket_may_have_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "%41?#\u00e4"
    folder.mkdir()
    monkeypatch.chdir(folder)
    async with running(tmp_path / "s.db", grpc=f"unix:{folder}/s.sock") as server:
        for address in (server.grpc, "unix:s.sock", "unix:./s.sock", "unix://" + server.grpc[5:]):
            async with Stubs(address) as client:
                await client.status.ListDatasets(LIST)
    with socket.socket(socket.AF_UNIX) as left, pytest.raises(ConnectionRefusedError):
        left.connect("s.sock")
