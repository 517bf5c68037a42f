"""TLS of gRPC and HTTP, with real tools and certificates."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from stagecast.cli.rest_poll import fetch_on_thread
from stagecast.cli.target import Credentials
from stagecast.client import Stubs
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.certificates import Authority, Certificate
from tests.cli.command import stagecast
from tests.process import ServerProcess, running
from tests.rpc.calls import Calls
from tests.rpc.commands import Command, Finished

LIST = "stagecast.v1.StatusService/ListDatasets"
COGNEE = "/api/v1/datasets/status"
UNKNOWN = "unknown key; 'stagecast keys list' shows the known ones, on the server's machine"
ANY = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@pytest.fixture
async def key(tmp_path: Path) -> str:
    return await make_key(tmp_path / "s.db")


@pytest.fixture
async def server(tmp_path: Path, ours: Certificate, key: str) -> AsyncIterator[ServerProcess]:
    options = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    async with running(tmp_path / "s.db", *options) as server:
        yield server


@pytest.fixture
async def strict(
    tmp_path: Path, authority: Authority, ours: Certificate, key: str
) -> AsyncIterator[ServerProcess]:
    """A server that requires client certificates."""
    options = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    async with running(tmp_path / "s.db", *options, "--tls-client-ca", str(authority.ca)) as server:
        yield server


async def curl(*arguments: str | Path) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Finished(code=process.returncode, out=out.decode(), err=err.decode())


async def test_grpcurl_and_curl_connect_with_tls(
    server: ServerProcess, authority: Authority, key: str, tmp_path: Path
) -> None:
    grpcurl = Command("grpcurl", "-cacert", str(authority.ca), home=tmp_path)
    listed = await grpcurl.run("-H", f"authorization: Bearer {key}", server.grpc, LIST)
    assert (listed.code, listed.answers) == (0, [{}]), listed.err
    without_key = await grpcurl.run(server.grpc, LIST)
    assert without_key.code == 64 + 16
    assert "CREDENTIALS_MISSING" in without_key.err
    open_to_all = await grpcurl.run(server.grpc, "grpc.health.v1.Health/Check")
    assert open_to_all.answers == [{"status": "SERVING"}], open_to_all.err
    url = f"https://{server.http}{COGNEE}"
    read = await curl("--cacert", authority.ca, "-H", f"X-Api-Key: {key}", url)
    assert (read.code, json.loads(read.out)) == (0, {}), read.err


async def test_client_that_does_not_trust_the_certificate_does_not_connect(
    server: ServerProcess, tmp_path: Path, key: str
) -> None:
    other = Authority(tmp_path, "other").ca
    read = await curl("--cacert", other, f"https://{server.http}{COGNEE}")
    assert read.code == 60
    async with Stubs(server.grpc, key=key, ca=other) as client:
        with pytest.raises(aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.status.ListDatasets(ss.ListDatasetsRequest())


async def test_client_without_tls_is_not_answered(server: ServerProcess, key: str) -> None:
    async with Stubs(server.grpc, key=key) as client:
        with pytest.raises(aio.AioRpcError):
            await client.status.ListDatasets(ss.ListDatasetsRequest(), timeout=60)
    read = await curl(f"http://{server.http}{COGNEE}")
    assert read.code != 0


async def test_handshakes_that_never_end_count_as_connections(
    tmp_path: Path, authority: Authority, ours: Certificate
) -> None:
    options = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    limits = ("--max-connections", "4", "--request-timeout", "3600")
    async with running(tmp_path / "s.db", *options, *limits) as server:
        peers = [await asyncio.open_connection(*server.http.split(":")) for _ in range(20)]
        async with asyncio.timeout(60):
            closed = [await reader.read() for reader, _ in peers[5:]]
        assert closed == 15 * [b""]
        assert not any(reader.at_eof() for reader, _ in peers[:5])
        for _, writer in peers:
            writer.close()
        health = ("--cacert", authority.ca, f"https://{server.http}/healthz")
        async with asyncio.timeout(60):
            while (await curl(*health)).out != '{"alive":true}':
                pass
        assert await server.stop() == 0
        assert "ERROR" not in (tmp_path / "s.db.log").read_text()


@pytest.mark.slow
async def test_client_and_commands_watch_over_tls(
    server: ServerProcess, authority: Authority, key: str, dataset_id: str
) -> None:
    async with Stubs(server.grpc, key=key, ca=authority.ca) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        await calls.stop()
        request = ss.WatchBatchRequest(dataset_id=dataset_id, batch_id="b1")
        messages = [message async for message in client.watch(request)]
    assert messages[-1].batch.state
    variables = {
        "STAGECAST_KEY": key,
        "STAGECAST_CA": str(authority.ca),
        "STAGECAST_GRPC": server.grpc,
    }
    for command in ("status", "history", "retry", "batches"):
        names = () if command == "batches" else (dataset_id, "b1")
        ended = await stagecast(command, *names, **variables)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out
    options = ("--key", key, "--ca", authority.ca, "--grpc", server.grpc)
    ended = await stagecast("status", dataset_id, *options)
    assert ended.code == 0, ended.err


@pytest.mark.slow
async def test_demo_uses_a_server_with_tls_and_keys(
    server: ServerProcess, authority: Authority, key: str
) -> None:
    options = ("--rest", "--grpcurl")
    command = ("demo", *options, "--grpc", server.grpc, "--http", server.http, "--ca", authority.ca)
    ended = await stagecast(*command, STAGECAST_KEY=key)
    assert (ended.code, ended.err) == (0, "")
    assert f"GET https://{server.http}{COGNEE}" in ended.out
    assert f"grpcurl -cacert {authority.ca} -H" in ended.out
    assert key not in ended.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            (),
            (
                "Error: {grpc} requires a key or token; set --key or STAGECAST_KEY "
                "(CREDENTIALS_MISSING)\n"
            ),
        ),
        (("--key", "wrong"), f"Error: {UNKNOWN} (CREDENTIALS_INVALID)\n"),
    ],
)
async def test_command_without_a_good_key_says_so_in_one_line(
    server: ServerProcess, authority: Authority, options: tuple[str, ...], line: str
) -> None:
    ended = await stagecast("batches", "--grpc", server.grpc, "--ca", authority.ca, *options)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == line.format(grpc=server.grpc)


@pytest.mark.slow
async def test_command_that_cannot_trust_the_server_says_so_in_one_line(
    server: ServerProcess, tmp_path: Path, key: str
) -> None:
    other = Authority(tmp_path, "other").ca
    for trust in (("--ca", other), ("--tls",)):
        ended = await stagecast("batches", "--grpc", server.grpc, *trust, STAGECAST_KEY=key)
        assert ended.code == 2
        [line] = ended.err.splitlines()
        error = f"Error: cannot reach {server.grpc}: its certificate is not trusted ("
        assert line.startswith(error)
    missing = await stagecast("batches", "--ca", tmp_path / "missing")
    assert (missing.code, missing.err) == (
        2,
        f"Error: cannot read {tmp_path / 'missing'}: No such file or directory\n",
    )
    for options in (("--ca", __file__), ("--cert", __file__, "--cert-key", other)):
        no_pem = await stagecast("batches", *options)
        assert no_pem.code == 2
        assert no_pem.err.startswith(f"Error: {__file__} holds no certificate in PEM: ")
    half = await stagecast("batches", "--cert", other)
    assert (half.code, half.err) == (2, "Error: --cert and --cert-key must be used together\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "trusting", "why"),
    [
        ("grpc", None, "it closed the connection; does it require TLS (--tls or --ca), or "),
        ("http", "ca.pem", "it does not speak gRPC; "),
    ],
)
async def test_command_with_the_wrong_tls_names_likely_causes(
    server: ServerProcess, tmp_path: Path, protocol: str, trusting: str | None, why: str
) -> None:
    address = getattr(server, protocol)
    trust = ("--ca", tmp_path / trusting) if trusting else ()
    await _check_error(f"cannot reach {address}: {why}", "--grpc", address, *trust)


async def test_tls_error_of_a_rest_request_is_in_plain_words(
    server: ServerProcess, tmp_path: Path, authority: Authority
) -> None:
    async with running(tmp_path / "plain.db") as plain:
        other = Authority(tmp_path, "other")
        for http, access, why in [
            (server.http, Credentials(ca=other.ca), "its certificate is not trusted ("),
            (plain.http, Credentials(tls=True), "it does not use TLS; "),
        ]:
            with pytest.raises(OSError, match="^" + re.escape(why)):
                await fetch_on_thread(f"https://{http}/", access)


@pytest.mark.slow
async def test_command_without_a_client_certificate_names_likely_causes(
    strict: ServerProcess, authority: Authority
) -> None:
    why = "it closed the connection; does it require a client certificate (--cert), or another"
    requested = ("--grpc", strict.grpc, "--ca", authority.ca)
    await _check_error(f"cannot reach {strict.grpc}: {why}?", *requested)


@pytest.mark.slow
async def test_command_with_tls_says_that_the_server_has_none(
    tmp_path: Path, authority: Authority
) -> None:
    async with running(tmp_path / "plain.db") as server:
        for trust in (("--tls",), ("--ca", authority.ca)):
            reported = f"cannot reach {server.grpc}: it does not use TLS; "
            await _check_error(reported, "--grpc", server.grpc, *trust)


@pytest.mark.slow
async def test_command_says_that_the_certificate_is_for_another_host(
    tmp_path: Path, authority: Authority, ours: Certificate
) -> None:
    options = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    async with running(tmp_path / "s.db", *options, grpc="[::1]:0") as server:
        error = f"cannot reach {server.grpc}: its certificate is for another host"
        await _check_error(error, "--grpc", server.grpc, "--ca", authority.ca)


async def _check_error(beginning: str, *options: str | Path) -> None:
    ended = await stagecast("batches", *options)
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith(f"Error: {beginning}")


async def test_only_clients_with_a_certificate_connect(
    strict: ServerProcess, authority: Authority, key: str, tmp_path: Path
) -> None:
    mine = authority.issue("client")
    theirs = Authority(tmp_path, "other").issue("stranger")
    with_cert = ("--cert", mine.cert, "--key", mine.key)
    url = f"https://{strict.http}{COGNEE}"
    with_key = ("-H", f"X-Api-Key: {key}")
    assert (await curl("--cacert", authority.ca, *with_key, *with_cert, url)).out == "{}"
    stranger = ("--cert", theirs.cert, "--key", theirs.key)
    for bad in ((), stranger):
        assert (await curl("--cacert", authority.ca, *with_key, *bad, url)).code != 0
    async with Stubs(
        strict.grpc, key=key, ca=authority.ca, cert=mine.cert, cert_key=mine.key
    ) as client:
        assert not (await client.status.ListDatasets(ss.ListDatasetsRequest())).datasets
    wrong: list[dict[str, Any]] = [{}, {"cert": theirs.cert, "cert_key": theirs.key}]
    for bad_files in wrong:
        async with Stubs(strict.grpc, key=key, ca=authority.ca, **bad_files) as client:
            with pytest.raises(aio.AioRpcError):
                await client.status.ListDatasets(ss.ListDatasetsRequest(), timeout=60)


async def test_client_certificate_does_not_replace_a_key(
    strict: ServerProcess, authority: Authority, tmp_path: Path
) -> None:
    mine = authority.issue("client")
    options = ("--ca", authority.ca, "--cert", mine.cert, "--cert-key", mine.key)
    ended = await stagecast("batches", "--grpc", strict.grpc, *options)
    assert ended.code == 2
    assert "CREDENTIALS_MISSING" in ended.err


@pytest.mark.slow
async def test_serve_refuses_invalid_tls_files(
    tmp_path: Path, authority: Authority, ours: Certificate
) -> None:
    other, missing = authority.issue("other"), tmp_path / "missing"
    for options, why in (
        (("--tls-cert", ours.cert), "TLS needs both --tls-cert and --tls-key"),
        (("--tls-client-ca", authority.ca), "TLS needs both --tls-cert and --tls-key"),
        (("--tls-cert", missing, "--tls-key", ours.key), f"cannot read {missing}: No such file"),
        (
            ("--tls-cert", ours.cert, "--tls-key", other.key),
            f"the private key in {other.key} does not match the certificate in {ours.cert}",
        ),
        (
            ("--tls-cert", ours.key, "--tls-key", ours.cert),
            f"{ours.key} holds no certificate in PEM: it holds PRIVATE KEY",
        ),
        (
            ("--tls-cert", ours.cert, "--tls-key", ours.key, "--tls-client-ca", ours.key),
            f"{ours.key} holds no certificate in PEM: it holds PRIVATE KEY",
        ),
    ):
        ended = await stagecast("serve", "--db", tmp_path / "t.db", *ANY, *options)
        assert (ended.code, ended.out) == (1, "")
        [line] = ended.err.splitlines()
        assert line.startswith("Error: ")
        assert why in line


@pytest.mark.slow
async def test_several_processes_serve_tls(
    tmp_path: Path, authority: Authority, ours: Certificate, key: str
) -> None:
    options = ("--tls-cert", str(ours.cert), "--tls-key", str(ours.key), "--processes", "2")
    async with running(tmp_path / "s.db", *options) as server:
        for _ in range(4):
            async with Stubs(server.grpc, key=key, ca=authority.ca) as client:
                await client.status.ListDatasets(ss.ListDatasetsRequest())
        read = await curl(
            "--cacert", authority.ca, "-H", f"X-Api-Key: {key}", f"https://{server.http}{COGNEE}"
        )
        assert read.out == "{}", read.err
        assert await server.stop() == 0
