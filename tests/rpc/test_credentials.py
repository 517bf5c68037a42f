"""Authentication and scopes over gRPC."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from grpc_health.v1 import health_pb2

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.model import Scope
from stagecast.v1 import status_service_pb2 as ss
from stagecast.watches import waits
from tests.access import make_key, revoke
from tests.clock import Clock
from tests.conditions import until
from tests.grpc_calls import HealthStub, unary_unary
from tests.rpc.calls import Calls, Refusal, refused
from tests.rpc.test_bad_input import VALID

Code = grpc.StatusCode
UNAUTHENTICATED, DENIED = Code.UNAUTHENTICATED, Code.PERMISSION_DENIED

SERVICES = {"status": Scope.READ, "reports": Scope.REPORT, "controls": Scope.CONTROL}


@pytest.fixture
async def key(config: Config) -> str:
    """A key with all scopes, made before the server starts."""
    return await make_key(config.db, name="admin")


@pytest.fixture
async def server(config: Config, clock: Clock, key: str) -> AsyncIterator[App]:
    async with App(config, clock=clock) as app:
        yield app


@pytest.fixture
async def client(server: App, key: str) -> AsyncIterator[Stubs]:
    async with Stubs(server.grpc_address, key=key) as client:
        yield client


async def call_rpc(client: Stubs, rpc: str, **options: Any) -> Any:
    """Make a valid call of an RPC on an unknown dataset; a stream is read to its end."""
    request = type(VALID[rpc])()
    request.CopyFrom(VALID[rpc])
    fields = {field.name for field in request.DESCRIPTOR.fields}
    names = {"dataset_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "batch_id": "b1"}
    request.MergeFrom(type(request)(**{name: names[name] for name in names.keys() & fields}))
    [stub] = [s for s in (client.status, client.reports, client.controls) if hasattr(s, rpc)]
    call = getattr(stub, rpc)(request, timeout=60, **options)
    if rpc.startswith("Watch"):
        return [message async for message in call]
    return await call


async def refusal(address: str, *metadata: tuple[str, str], rpc: str = "GetDataset") -> Refusal:
    """Return the error of a call with this metadata."""
    async with Stubs(address) as client:
        return await refused(call_rpc(client, rpc, metadata=metadata))


@pytest.mark.parametrize("rpc", VALID)
async def test_every_rpc_requires_a_credential(server: App, rpc: str) -> None:
    refused_call = await refusal(server.grpc_address, rpc=rpc)
    assert (refused_call.code, refused_call.reason) == (UNAUTHENTICATED, "CREDENTIALS_MISSING")
    assert "x-api-key" in refused_call.message


@pytest.mark.parametrize("rpc", VALID)
async def test_every_rpc_requires_the_scope_of_its_service_and_no_other(
    server: App, config: Config, rpc: str
) -> None:
    async with Stubs(server.grpc_address) as client:
        [required] = [
            scope for stub, scope in SERVICES.items() if hasattr(getattr(client, stub), rpc)
        ]
    others = await make_key(config.db, *(set(Scope) - {required}), name="others")
    await known(server, others)
    denied = await refusal(server.grpc_address, ("x-api-key", others), rpc=rpc)
    assert (denied.code, denied.reason) == (DENIED, "SCOPE_MISSING")
    assert denied.metadata == {"scope": required.value}
    assert f"key {others[:18]} (others) has no scope '{required.value}'" == denied.message
    only = await make_key(config.db, required)
    await known(server, only)
    if rpc in ("ListDatasets", "ListBatches", "WatchDatasets", "CreateBatch"):
        return  # it would succeed, or never end
    admitted = await refusal(server.grpc_address, ("x-api-key", only), rpc=rpc)
    assert admitted.code is Code.NOT_FOUND


async def known(server: App, key: str) -> None:
    """Wait until the server knows a key."""
    actual: list[str] = []

    async def poll() -> None:
        actual[:] = [(await refusal(server.grpc_address, ("x-api-key", key))).reason]

    await until(lambda: bool(actual) and actual[0] != "CREDENTIALS_INVALID", meanwhile=poll)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {} ", "{}", " {} "])
async def test_key_is_accepted_in_either_header(server: App, key: str, form: str) -> None:
    header = "x-api-key" if form.strip() == "{}" else "authorization"
    admitted = await refusal(server.grpc_address, (header, form.format(key)))
    assert admitted.reason == "DATASET_NOT_FOUND"


@pytest.mark.parametrize(
    "argument",
    ["Basic {}", "Bearer", "Bearer {}x", "Bearer stagecast_00000000", "{}", "Bearer a.b.c"],
)
async def test_invalid_credential_is_refused_and_not_echoed(
    server: App, key: str, argument: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bad = await refusal(server.grpc_address, ("authorization", argument.format(key)))
    assert (bad.code, bad.reason) == (UNAUTHENTICATED, "CREDENTIALS_INVALID")
    assert bad.metadata == {}
    assert key[18:] not in f"{bad} {caplog.text}"


async def test_valid_key_is_accepted_beside_an_invalid_one(server: App, key: str) -> None:
    bad, good = ("authorization", "Bearer wrong"), ("x-api-key", key)
    for both in ((bad, good), (good, bad)):
        assert (await refusal(server.grpc_address, *both)).reason == "DATASET_NOT_FOUND"


async def test_credential_is_checked_before_the_request(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        call = unary_unary(channel, "/stagecast.v1.StatusService/GetDataset")
        with pytest.raises(aio.AioRpcError) as error:
            await call(b"\xff\xff")
    assert error.value.code() is UNAUTHENTICATED


async def test_expired_key_is_refused_as_expired(server: App, config: Config, clock: Clock) -> None:
    brief = await make_key(config.db, lives_s=60, clock=clock)
    await known(server, brief)
    clock.advance(60)
    expired = await refusal(server.grpc_address, ("x-api-key", brief))
    assert (expired.code, expired.reason) == (UNAUTHENTICATED, "CREDENTIALS_EXPIRED")
    assert expired.message == f"key {brief[:18]} has expired"


async def test_revoked_key_is_refused_as_revoked(server: App, config: Config, key: str) -> None:
    await revoke(config.db, key)
    actual: list[Refusal] = []

    async def poll() -> None:
        actual[:] = [await refusal(server.grpc_address, ("x-api-key", key))]

    await until(lambda: bool(actual) and actual[0].code is UNAUTHENTICATED, meanwhile=poll)
    assert (actual[0].reason, actual[0].message) == (
        "CREDENTIALS_INVALID",
        f"key {key[:18]} (admin) was revoked",
    )


async def test_health_needs_no_key(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        health = HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


LONG_LIVED: dict[str, Any] = {
    "WatchBatch": ss.WatchBatchRequest(follow=True, heartbeat_interval=Duration(seconds=1)),
    "WatchDatasets": ss.WatchDatasetsRequest(heartbeat_interval=Duration(seconds=1)),
    "WaitBatch": ss.WaitBatchRequest(timeout=Duration(seconds=600)),
}


def _begin(rpc: str, client: Stubs, dataset_id: str) -> Any:
    """Start a long-lived call."""
    request = type(LONG_LIVED[rpc])()
    request.CopyFrom(LONG_LIVED[rpc])
    if rpc != "WatchDatasets":
        request.dataset_id, request.batch_id = dataset_id, "b1"
    return getattr(client.status, rpc)(request, timeout=600)


async def _end(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    await call


@pytest.mark.slow
@pytest.mark.parametrize("rpc", LONG_LIVED)
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_running_call_ends_with_its_key(
    server: App,
    client: Stubs,
    config: Config,
    clock: Clock,
    dataset_id: str,
    monkeypatch: pytest.MonkeyPatch,
    rpc: str,
    how: str,
) -> None:
    await Calls(client, dataset_id).create("a")
    brief = await make_key(config.db, Scope.READ, lives_s=600, clock=clock)
    await known(server, brief)
    monkeypatch.setattr(waits, "_POLL_EVERY_S", 0.5)
    async with Stubs(server.grpc_address, key=brief) as reader:
        call = _begin(rpc, reader, dataset_id)
        await until(lambda: server.open_watches == 1)
        if how == "revoked":
            await revoke(config.db, brief)
        else:
            clock.advance(600)
        ended = await refused(_end(call))
    reason = "CREDENTIALS_INVALID" if how == "revoked" else "CREDENTIALS_EXPIRED"
    assert (ended.code, ended.reason) == (UNAUTHENTICATED, reason)


async def test_waiting_call_ends_at_once_when_its_key_is_revoked(
    server: App,
    client: Stubs,
    config: Config,
    dataset_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await Calls(client, dataset_id).create("a")
    brief = await make_key(config.db, Scope.READ)
    await known(server, brief)
    monkeypatch.setattr(waits, "_POLL_EVERY_S", 600.0)
    async with Stubs(server.grpc_address, key=brief) as reader:
        call = _begin("WaitBatch", reader, dataset_id)
        await until(lambda: server.open_watches == 1)
        # The first commit of another process wakes all waiters, whatever it changed.
        await known(server, await make_key(config.db))
        await revoke(config.db, brief)
        assert (await refused(_end(call))).reason == "CREDENTIALS_INVALID"


@pytest.mark.slow
async def test_first_key_makes_running_calls_require_credentials(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(config, clock=clock) as server, Stubs(server.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        watch = _begin("WatchBatch", client, dataset_id)
        await watch.wait_for_connection()
        key = await make_key(config.db)
        ended = await refused(_end(watch))
        assert (ended.code, ended.reason) == (UNAUTHENTICATED, "CREDENTIALS_MISSING")
        assert (await refused(calls.batch())).reason == "CREDENTIALS_MISSING"
        async with Stubs(server.grpc_address, key=key) as keyed:
            assert (await Calls(keyed, dataset_id).batch()).revision == 3


async def test_credentials_stay_required_after_the_last_key_is_revoked(
    server: App, config: Config, clock: Clock, key: str
) -> None:
    await revoke(config.db, key)
    async with App(config, clock=clock) as again:
        for address in (server.grpc_address, again.grpc_address):
            assert (await refusal(address)).reason == "CREDENTIALS_MISSING"


async def test_client_accepts_a_key_with_a_line_break(server: App, key: str) -> None:
    async with Stubs(server.grpc_address, key=f"{key}\n") as client:
        assert not (await client.status.ListDatasets(ss.ListDatasetsRequest())).datasets


@pytest.mark.parametrize("text", ["a\nb", "schlüssel", "a\x00b"])
async def test_client_refuses_a_malformed_key(server: App, text: str) -> None:
    with pytest.raises(
        ValueError, match="invalid key: only printable ASCII characters are allowed"
    ):
        Stubs(server.grpc_address, key=text)
