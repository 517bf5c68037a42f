"""Tokens of an external signer grant the same as keys, over gRPC and REST."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from google.protobuf.duration_pb2 import Duration

from stagecast.app import App
from stagecast.auth.secret import make_key
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import status_service_pb2 as ss
from tests.cli.command import stagecast
from tests.clock import Clock
from tests.process import running
from tests.rpc.calls import Calls, refused

SHARED = "a text that both know, of 32 bytes or more"
COGNEE = "/api/v1/datasets/status"


def sign(dataset_id: str = "*", *, lives_s: float = 600, key: str = SHARED, **claims: Any) -> str:
    value = {
        "aud": "us",
        "exp": time.time() + lives_s,
        "scope": "read report",
        "datasets": [dataset_id],
    }
    return jwt.encode(value | claims, key, "HS256")


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time_ns() // 1_000)


@pytest.fixture
async def server(config: Config, clock: Clock, tmp_path: Path) -> AsyncIterator[App]:
    secret = tmp_path / "shared"
    secret.write_text(SHARED)
    async with App(replace(config, jwt_key=secret, jwt_audience="us"), clock=clock) as app:
        yield app


async def test_token_grants_its_scopes_and_datasets(server: App, dataset_id: str) -> None:
    async with Stubs(server.grpc_address, key=sign(dataset_id)) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        assert (await refused(calls.stop())).reason == "SCOPE_MISSING"
        other = Calls(client, "7c9e6679-7425-40de-944b-e07fc1f90ae7")
        assert (await refused(other.create("a"))).reason == "DATASET_NOT_FOUND"
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
        bearer = {"Authorization": f"Bearer {sign(dataset_id)}"}
        assert (await http.get(COGNEE, headers=bearer)).json().keys() == {dataset_id}
        path = f"/v1/datasets/{dataset_id}/documents/b1/indexing-status"
        assert (await http.get(path, headers=bearer)).status_code == 200


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: None, "CREDENTIALS_MISSING"),
        (lambda: sign(aud="them"), "CREDENTIALS_INVALID"),
        (lambda: sign(key="another text that both know, of 32 bytes"), "CREDENTIALS_INVALID"),
        (lambda: sign(lives_s=-60), "CREDENTIALS_EXPIRED"),
        (lambda: sign(scope="control"), "SCOPE_MISSING"),
        (
            lambda: jwt.encode({"aud": "us", "scope": "read"}, SHARED, "HS256"),
            "CREDENTIALS_INVALID",
        ),
        (lambda: sign().rpartition(".")[0] + ".", "CREDENTIALS_INVALID"),
    ],
    ids=["none", "audience", "key", "expired", "scope", "no expiry", "unsigned"],
)
async def test_invalid_token_is_refused(
    server: App, dataset_id: str, make: Callable[[], str | None], reason: str
) -> None:
    token = make()  # made now, not at collection, which may be long ago
    async with Stubs(server.grpc_address, key=token) as client:
        refusal = await refused(Calls(client, dataset_id).batch())
    assert refusal.reason == reason
    assert not token or token.rpartition(".")[2] == "" or token not in f"{refusal}"
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await http.get(COGNEE, headers=headers)
    assert answer.status_code == (403 if reason == "SCOPE_MISSING" else 401)


async def test_unknown_key_is_not_parsed_as_a_token(server: App, dataset_id: str) -> None:
    async with Stubs(server.grpc_address, key=make_key()) as client:
        refusal = await refused(Calls(client, dataset_id).batch())
    assert refusal.reason == "CREDENTIALS_INVALID"
    assert (
        refusal.message
        == "unknown key; 'stagecast keys list' shows the known ones, on the server's machine"
    )


async def test_watch_ends_when_its_token_expires(
    server: App, clock: Clock, dataset_id: str
) -> None:
    async with Stubs(server.grpc_address, key=sign(dataset_id)) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        watch = client.status.WatchBatch(
            ss.WatchBatchRequest(
                dataset_id=dataset_id,
                batch_id="b1",
                follow=True,
                heartbeat_interval=Duration(seconds=1),
            )
        )
        await watch.wait_for_connection()
        clock.advance(3_600)  # well after the token's expiry
        refusal = await refused(_end(watch))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    assert (refusal.reason, refusal.message) == ("CREDENTIALS_EXPIRED", "a token has expired")


async def _end(watch: Any) -> None:
    async for _ in watch:
        pass


async def test_serve_accepts_tokens_without_keys(tmp_path: Path) -> None:
    secret = tmp_path / "shared"
    secret.write_text(f"{SHARED}\n")
    options = ("--jwt-key", str(secret), "--jwt-audience", "us")
    async with running(tmp_path / "s.db", *options, grpc="0.0.0.0:0") as server:
        address = f"127.0.0.1:{server.grpc.rpartition(':')[2]}"
        async with Stubs(address, key=sign()) as client:
            assert not (await client.status.ListDatasets(ss.ListDatasetsRequest())).datasets
    assert SHARED not in Path(tmp_path / "s.db.log").read_text()


async def test_serve_refuses_a_weak_secret(tmp_path: Path) -> None:
    weak = tmp_path / "weak"
    weak.write_text("password")
    addresses = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
    ended = await stagecast("serve", *addresses, "--db", tmp_path / "s.db", "--jwt-key", weak)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"Error: the secret in {weak} is too short: 8 bytes, at least 32 are required\n"
    )
