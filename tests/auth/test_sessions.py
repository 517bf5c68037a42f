"""Sessions: no key in them, no state for them, and an end."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stagecast.auth import LIFE_S, KeyCache, Sessions, forgery_token
from stagecast.auth.secret import digest_of
from stagecast.auth.sessions import MAX_CHARACTERS
from stagecast.errors import CredentialsExpired, CredentialsInvalid
from stagecast.store.sqlite import SqliteStore
from tests.access import make_key
from tests.builders import ENCODER
from tests.clock import Clock


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def key(db: Path) -> str:
    return await make_key(db)


@pytest.fixture
async def key_cache(db: Path, key: str, clock: Clock) -> AsyncIterator[KeyCache]:
    store = SqliteStore(
        db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    cache = KeyCache(store, on_change=lambda: None)
    await cache.load()
    yield cache
    await store.close()


@pytest.fixture
def sessions(key_cache: KeyCache, clock: Clock) -> Sessions:
    return Sessions(key_cache, clock=clock)


def test_session_gives_back_its_key(sessions: Sessions, key: str) -> None:
    assert sessions.open(sessions.begin(key)) == key


def test_session_is_valid_in_another_process(
    sessions: Sessions, key_cache: KeyCache, clock: Clock, key: str
) -> None:
    assert Sessions(key_cache, clock=clock).open(sessions.begin(key)) == key


def test_session_contains_neither_the_key_nor_its_digest(sessions: Sessions, key: str) -> None:
    session = sessions.begin(key)
    raw = base64.urlsafe_b64decode(session.rpartition(".")[2])
    for secret in (key.encode(), key.rpartition("_")[2].encode(), digest_of(key)):
        assert secret not in session.encode()
        assert secret not in raw


def test_sessions_of_a_key_differ(sessions: Sessions, key: str) -> None:
    assert sessions.begin(key) != sessions.begin(key)


def test_session_ends(sessions: Sessions, clock: Clock, key: str) -> None:
    session = sessions.begin(key)
    clock.advance(LIFE_S - 1)
    assert sessions.open(session) == key
    clock.advance(1)
    with pytest.raises(CredentialsExpired):
        sessions.open(session)


@pytest.mark.parametrize("at", [0, 2, 4, 20, -1])
def test_changed_session_is_refused(sessions: Sessions, key: str, at: int) -> None:
    session = [*sessions.begin(key)]
    session[at] = "A" if session[at] != "A" else "B"
    with pytest.raises(CredentialsInvalid):
        sessions.open("".join(session))


@pytest.mark.parametrize(
    "session",
    ["", "k", "k.", "k.1", "k.1.", "k.1.AAAA", "k.1.é", "k.²." + 60 * "A", "k.2." + 60 * "A"],
)
def test_malformed_session_is_refused(sessions: Sessions, session: str) -> None:
    with pytest.raises(CredentialsInvalid):
        sessions.open(session)


async def test_session_of_another_key_is_refused(
    sessions: Sessions, key_cache: KeyCache, db: Path, key: str
) -> None:
    await make_key(db)
    key_cache.refresh()
    with pytest.raises(CredentialsInvalid):
        sessions.open(sessions.begin(key).replace("k.1.", "k.2."))


def test_token_of_a_signer_is_its_own_session(sessions: Sessions) -> None:
    assert sessions.open(sessions.begin("ey.token.signed")) == "ey.token.signed"
    with pytest.raises(CredentialsInvalid, match="too long for a cookie"):
        sessions.begin((MAX_CHARACTERS + 1) * "t")


def test_forgery_token_tells_nothing_of_a_session(sessions: Sessions, key: str) -> None:
    first, second = sessions.begin(key), sessions.begin(key)
    assert forgery_token(first) == forgery_token(first) != forgery_token(second)
    assert first not in forgery_token(first)
