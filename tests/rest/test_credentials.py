"""Authentication on the two paths, with the errors that their clients know."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from stagecast.auth import Authenticator, KeyCache
from stagecast.grace import Grace
from stagecast.model import Scope
from stagecast.notifier import Notifier
from stagecast.rest import make_rest_app
from stagecast.store.sqlite import SqliteStore
from tests.access import make_key, revoke
from tests.builders import DATASET_ID
from tests.clock import Clock
from tests.rest.conftest import Ingestion
from tests.store.counting import CountingStore

COGNEE = "/api/v1/datasets/status"
DIFY = "/v1/datasets/{}/documents/b-1/indexing-status"

_START = "Authorization header must be provided and start with 'Bearer'"
_SCHEME = "Authorization scheme must be 'Bearer'"
_INVALID = "Access token is invalid"


@pytest.fixture
async def store(db: Path, clock: Clock, notifier: Notifier) -> AsyncIterator[CountingStore]:
    store = CountingStore(
        db, clock=clock, on_commit=notifier.notify, on_foreign_commit=lambda: None
    )
    yield store
    await store.close()


@pytest.fixture
async def key_cache(store: SqliteStore, notifier: Notifier) -> KeyCache:
    return KeyCache(store, on_change=lambda: notifier.notify_only(notifier.topics()))


@pytest.fixture
async def http(
    store: SqliteStore, notifier: Notifier, clock: Clock, key_cache: KeyCache, key: str
) -> AsyncIterator[httpx.AsyncClient]:
    authenticator = Authenticator(key_cache, verifier=None, clock=clock, required=False)
    await key_cache.load()
    app = make_rest_app(
        store,
        authenticator=authenticator,
        is_ready=lambda: True,
        store_s=600.0,
        grace=Grace(),
        cors_origins=("http://localhost:3000",),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as client:
        yield client


@pytest.fixture
async def key(db: Path) -> str:
    return await make_key(db)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def envelope(message: str) -> dict[str, object]:
    return {"status": 401, "code": "unauthorized", "message": message}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, _START),
        ({"X-Api-Key": "KEY"}, _START),
        ({"Authorization": ""}, _START),
        ({"Authorization": "Bearer"}, _START),
        ({"Authorization": "KEY"}, _START),
        ({"Authorization": "Basic KEY"}, _SCHEME),
        ({"Authorization": "Bearer wrong"}, _INVALID),
        ({"Authorization": "Bearer KEYx"}, _INVALID),
        ({"Authorization": "Bearer one two"}, _INVALID),
    ],
)
@pytest.mark.parametrize("dataset_id", [DATASET_ID, "malformed"])
async def test_dify_path_checks_credentials_before_the_dataset(
    http: httpx.AsyncClient, key: str, headers: dict[str, str], message: str, dataset_id: str
) -> None:
    argument = {name: value.replace("KEY", key) for name, value in headers.items()}
    answer = await http.get(DIFY.format(dataset_id), headers=argument)
    assert answer.status_code == 401
    assert answer.json() == envelope(message)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
async def test_dify_path_accepts_the_scheme_in_any_case(
    http: httpx.AsyncClient, ingestion: Ingestion, key: str, scheme: str
) -> None:
    await ingestion.submit("a")
    answer = await http.get(ingestion.path, headers={"Authorization": f"{scheme} {key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Api-Key": "KEY"},
        {"Authorization": "Bearer KEY"},
        {"X-Api-Key": "wrong", "Authorization": "Bearer KEY"},
        {"X-Api-Key": "KEY", "Authorization": "Bearer wrong"},
        {"X-Api-Key": "KEY", "Authorization": "Basic wrong"},
    ],
)
async def test_cognee_path_accepts_any_valid_credential(
    http: httpx.AsyncClient, key: str, headers: dict[str, str]
) -> None:
    argument = {name: value.replace("KEY", key) for name, value in headers.items()}
    answer = await http.get(COGNEE, headers=argument)
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Api-Key": ""}, {"X-Api-Key": "wrong"}, {"Authorization": "KEY"}, bearer("wrong")],
)
async def test_cognee_path_checks_credentials_before_the_query(
    http: httpx.AsyncClient, key: str, headers: dict[str, str]
) -> None:
    argument = {name: value.replace("KEY", key) for name, value in headers.items()}
    answer = await http.get(COGNEE, params={"dataset": "bad"}, headers=argument)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
    assert "WWW-Authenticate" not in answer.headers


async def test_key_without_the_scope_reads_nothing(
    http: httpx.AsyncClient, db: Path, dataset_id: str
) -> None:
    writer = await make_key(db, Scope.REPORT, Scope.CONTROL)
    dify = await http.get(DIFY.format(dataset_id), headers=bearer(writer))
    assert dify.status_code == 403
    assert dify.json() == {
        "status": 403,
        "code": "forbidden",
        "message": "The access token does not allow this.",
    }
    cognee = await http.get(COGNEE, headers=bearer(writer))
    assert (cognee.status_code, cognee.json()) == (403, {"detail": "Forbidden"})


async def test_expired_or_revoked_key_is_refused(
    http: httpx.AsyncClient, db: Path, clock: Clock, dataset_id: str
) -> None:
    expiring = await make_key(db, lives_s=60, clock=clock)
    revoked = await make_key(db)
    await revoke(db, revoked)
    clock.advance(60)
    for ended in (expiring, revoked):
        answer = await http.get(DIFY.format(dataset_id), headers=bearer(ended))
        assert answer.json() == envelope(_INVALID)
        assert (await http.get(COGNEE, headers={"X-Api-Key": ended})).status_code == 401


@pytest.mark.parametrize("visible", [[DATASET_ID], []], ids=["another", "none"])
async def test_forbidden_dataset_looks_like_an_unknown_one(
    http: httpx.AsyncClient,
    db: Path,
    ingestion: Ingestion,
    key: str,
    visible: list[str],
) -> None:
    other = await make_key(db, datasets=visible)
    requested = [ingestion.path, f"{COGNEE}?dataset={ingestion.dataset_id}", COGNEE]
    before = [await http.get(path, headers=bearer(other)) for path in requested]
    await ingestion.submit("a")
    for path in requested:  # cached for permitted callers
        assert ingestion.dataset_id in (await http.get(path, headers=bearer(key))).text + path
    after = [await http.get(path, headers=bearer(other)) for path in requested]
    for unknown, forbidden in zip(before, after, strict=True):
        assert forbidden.status_code == unknown.status_code
        assert forbidden.headers.raw == unknown.headers.raw
        assert forbidden.content == unknown.content
    assert after[0].json()["message"] == "Dataset not found."


async def test_cached_response_is_shared_only_by_equal_visibility(
    http: httpx.AsyncClient,
    db: Path,
    begin: Callable[..., Ingestion],
    key: str,
) -> None:
    mine, theirs = (begin(str(uuid.uuid4()), "b-1") for _ in range(2))
    for one in (mine, theirs):
        await one.submit("a")
    keys = {
        key: {mine.dataset_id, theirs.dataset_id},
        await make_key(db, datasets=[mine.dataset_id]): {mine.dataset_id},
        await make_key(db, datasets=[theirs.dataset_id]): {theirs.dataset_id},
    }
    named = f"{COGNEE}?dataset={mine.dataset_id}&dataset={theirs.dataset_id}"
    for _ in range(2):
        for argument, visible in keys.items():
            for path in (COGNEE, named):
                answer = await http.get(path, headers={"X-Api-Key": argument})
                assert answer.json().keys() == visible
            for one in (mine, theirs):
                status = (await http.get(one.path, headers=bearer(argument))).status_code
                assert status == (200 if one.dataset_id in visible else 404)


@pytest.mark.parametrize("path", [COGNEE, f"{COGNEE}/progress", DIFY.format(DATASET_ID)])
async def test_no_cache_in_between_answers_other_callers(
    http: httpx.AsyncClient, begin: Callable[..., Ingestion], key: str, path: str
) -> None:
    """Some know only `Authorization` as a reason not to share an answer."""
    await begin(DATASET_ID, "b-1").submit("a")
    headers = bearer(key)
    answer = await http.get(path, headers=headers)
    unchanged = await http.get(path, headers=headers | {"If-None-Match": answer.headers["etag"]})
    refused = await http.get(path)
    assert [one.status_code for one in (answer, unchanged, refused)] == [200, 304, 401]
    for one in (answer, unchanged, refused):
        assert one.headers.get_list("cache-control") == ["private, no-cache"]


async def test_response_is_read_once_for_all_permitted_callers(
    http: httpx.AsyncClient,
    db: Path,
    key_cache: KeyCache,
    store: CountingStore,
    ingestion: Ingestion,
    key: str,
) -> None:
    await ingestion.submit("a")
    mine = ingestion.dataset_id
    keys = [key, *[await make_key(db, datasets=[mine, *other]) for other in ([], [DATASET_ID])]]
    key_cache.refresh()
    before = store.reads
    answers = [await http.get(ingestion.path, headers=bearer(one)) for one in keys]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert store.reads == before + 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
async def test_probes_and_openapi_need_no_credentials(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


async def test_preflight_needs_no_credentials(http: httpx.AsyncClient) -> None:
    page = {"Origin": "http://localhost:3000"}
    asking = page | {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "X-Api-Key",
    }
    assert (await http.options(COGNEE, headers=asking)).status_code == 200
    refused = await http.get(COGNEE, headers=page)
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == page["Origin"]


async def test_nothing_of_a_credential_is_logged(
    http: httpx.AsyncClient, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for argument in (key, key + "x"):
        for path in (COGNEE, DIFY.format("malformed")):
            answer = await http.get(path, headers=bearer(argument))
            assert key[18:] not in answer.text
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("stage")]
    assert key[18:] not in "".join(ours)
