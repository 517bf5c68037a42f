"""The application of a server without authentication."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp

from stagecast.grace import Grace
from stagecast.rest import make_rest_app
from stagecast.store.sqlite import SqliteStore
from tests.access import open_authenticator


def open_app(
    store: SqliteStore,
    *,
    is_ready: Callable[[], bool] = lambda: True,
    store_s: float = 600.0,
    cors_origins: Sequence[str] = (),
    root_path: str = "",
) -> ASGIApp:
    """Return the application."""
    return make_rest_app(
        store,
        authenticator=open_authenticator(store),
        is_ready=is_ready,
        store_s=store_s,
        grace=Grace(),
        cors_origins=cors_origins,
        root_path=root_path,
    )
