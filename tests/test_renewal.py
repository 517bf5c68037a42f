"""Renewal of the certificate of a running server."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import aio

from stagecast import certificates, tls
from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.v1 import status_service_pb2 as ss
from tests.certificates import Authority, Certificate
from tests.conditions import until
from tests.grpc_calls import read
from tests.rpc.calls import BATCH, Calls


@pytest.fixture
def config(config: Config, ours: Certificate) -> Config:
    return dataclasses.replace(config, tls_cert=ours.cert, tls_key=ours.key, tls_every_s=0.01)


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    async with App(config) as app:
        yield app


async def shown_certificate(address: str) -> str:
    """Return the certificate, in PEM, that a new connection gets."""
    host, _, port = address.rpartition(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))


async def _until_shown(address: str, certificate: str) -> None:
    async with asyncio.timeout(600):
        while await shown_certificate(address) != certificate:
            pass


async def test_grpc_and_http_use_a_renewed_certificate(
    server: App, authority: Authority, ours: Certificate
) -> None:
    first = ours.cert.read_text()
    for address in (server.grpc_address, server.http_address):
        assert await shown_certificate(address) == first
    authority.issue("server")
    renewed = ours.cert.read_text()
    assert renewed != first
    for address in (server.grpc_address, server.http_address):
        await _until_shown(address, renewed)


async def test_open_watch_survives_a_renewal(
    server: App, authority: Authority, ours: Certificate, dataset_id: str
) -> None:
    async with Stubs(server.grpc_address, ca=authority.ca) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        watch = client.status.WatchBatch(
            ss.WatchBatchRequest(dataset_id=dataset_id, batch_id=BATCH), timeout=60
        )
        assert (await read(watch)).snapshot.complete
        authority.issue("server")
        await _until_shown(server.grpc_address, ours.cert.read_text())
        await calls.stop()
        assert (await read(watch)).transitions
        async with Stubs(server.grpc_address, ca=authority.ca) as another:
            assert await Calls(another, dataset_id).batch()


async def test_invalid_certificate_is_logged_once_and_the_old_one_stays(
    server: App, authority: Authority, ours: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stagecast.tls")
    first = ours.cert.read_text()
    ours.cert.write_text("half a certif")
    await until(lambda: len(caplog.messages) > 0)
    for address in (server.grpc_address, server.http_address):
        for _ in range(5):
            assert await shown_certificate(address) == first
    [line] = caplog.messages
    assert line.startswith(f"keeping the current certificate: {ours.cert} holds no certificate")
    ours.cert.unlink()
    await until(lambda: len(caplog.messages) > 1)
    assert caplog.messages[1].startswith(
        f"keeping the current certificate: cannot read {ours.cert}"
    )
    authority.issue("server")
    for address in (server.grpc_address, server.http_address):
        await _until_shown(address, ours.cert.read_text())


async def test_failed_renewal_is_tried_again(
    server: App, authority: Authority, ours: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """The cause may pass while the files stay the same, as with too few file descriptors."""
    caplog.set_level(logging.INFO, "stagecast.tls")
    read = vars(certificates)["read_file"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "read_file", _fail)
        await until(lambda: len(caplog.messages) > 0)
        authority.issue("server")
    assert vars(certificates)["read_file"] is read
    for address in (server.grpc_address, server.http_address):
        await _until_shown(address, ours.cert.read_text())
    assert caplog.messages == [
        "keeping the current certificate: too many open files",
        f"{ours.cert} was renewed",
    ]


def _fail(_path: Path) -> bytes:
    raise StartError("too many open files")


async def test_server_stops_while_a_certificate_is_being_read(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk may hang."""
    reading: list[threading.Thread] = []
    held = threading.Event()

    def hang(_path: Path) -> bytes:
        reading.append(threading.current_thread())
        held.wait()
        raise StartError("the disk hangs")

    async with asyncio.timeout(60):
        async with App(config):
            monkeypatch.setattr(certificates, "read_file", hang)
            await until(lambda: len(reading) > 0)
        [thread] = reading
        assert thread.is_alive()
        assert thread.daemon, "the end of the process does not wait for it either"
        held.set()
        await until(lambda: not thread.is_alive())


async def test_renewal_does_not_read_the_client_ca(
    config: Config, authority: Authority, ours: Certificate
) -> None:
    """The client CA is read once, at the start, and may be missing later."""
    trusted = ours.cert.with_name("trusted.pem")
    trusted.write_bytes(authority.ca.read_bytes())
    async with App(dataclasses.replace(config, tls_client_ca=trusted)) as server:
        trusted.unlink()
        authority.issue("server")
        for address in (server.grpc_address, server.http_address):
            await _until_shown(address, ours.cert.read_text())


async def test_pair_that_is_half_written_is_not_used(
    config: Config, authority: Authority, ours: Certificate
) -> None:
    """Certificate and key are written one after the other, so a read may get a mixed pair."""
    started, key = tls.load_tls(config), ours.key.read_bytes()
    assert started is not None
    authority.issue("server")
    newest = ours.key.read_bytes()
    ours.key.write_bytes(key)
    with pytest.raises(StartError, match="does not match the certificate"):
        tls._reload(started)
    ours.key.write_bytes(newest)
    renewed = tls._reload(started)
    assert (renewed.cert_pem, renewed.key_pem) == (ours.cert.read_bytes(), newest)


async def test_clients_still_need_a_certificate_after_a_renewal(
    config: Config, authority: Authority, ours: Certificate
) -> None:
    mine = authority.issue("client")
    pair: dict[str, Any] = {"cert": mine.cert, "cert_key": mine.key}
    strict = dataclasses.replace(config, tls_client_ca=authority.ca)
    async with App(strict) as server:
        authority.issue("server")
        await _until_shown(server.grpc_address, ours.cert.read_text())
        async with Stubs(server.grpc_address, ca=authority.ca) as without:
            with pytest.raises(aio.AioRpcError, match="Socket closed"):
                await without.status.ListDatasets(ss.ListDatasetsRequest())
        async with Stubs(server.grpc_address, ca=authority.ca, **pair) as with_cert:
            assert not (await with_cert.status.ListDatasets(ss.ListDatasetsRequest())).datasets
        await _until_shown(server.http_address, ours.cert.read_text())
        url = f"https://{server.http_address}/healthz"
        trusting = ssl.create_default_context(cafile=authority.ca)
        async with httpx.AsyncClient(verify=trusting, timeout=60) as http_without:
            with pytest.raises(httpx.HTTPError):
                await http_without.get(url)
        trusting.load_cert_chain(mine.cert, mine.key)
        async with httpx.AsyncClient(verify=trusting, timeout=60) as http_with:
            assert (await http_with.get(url)).json() == {"alive": True}
