"""The HTTP application: which path is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stagecast.auth import Authenticator
from stagecast.feed import Feed
from stagecast.queries import Queries
from stagecast.rest import cognee, dify
from stagecast.rest.openapi import show_openapi


def make_rest_app(
    queries: Queries,
    feed: Feed,
    *,
    authenticator: Authenticator,
    is_ready: Callable[[], bool],
    cors_origins: Sequence[str] = (),
) -> Starlette:
    """Return the application.

    Args:
        queries: what answers the two paths.
        feed: tells when an answer is worth nothing any more.
        authenticator: says who may ask for the two paths; the others are open.
        is_ready: whether the store can be written and the server is not draining; `/readyz` tells.
        cors_origins: whose pages a browser lets read the answers; none if it is empty.
    """

    async def tell_ready(_request: Request) -> Response:
        ready = is_ready()
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    return Starlette(
        routes=[
            Route(dify.PATH, dify.IndexingStatus(queries, feed, authenticator)),
            Route(cognee.PATH, cognee.DatasetsStatus(queries, feed, authenticator)),
            Route("/openapi.json", show_openapi),
            Route("/healthz", _tell_alive),
            Route("/readyz", tell_ready),
        ],
        middleware=[_allow(cors_origins)] if cors_origins else [],
        exception_handlers={HTTPException: _explain},
    )


def _allow(origins: Sequence[str]) -> Middleware:
    """Let pages of these origins ask with whatever credentials they have, as Cognee's do."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_credentials=True,
        allow_methods=("GET", "HEAD"),
        allow_headers=("*",),
        expose_headers=("ETag", "Retry-After", "WWW-Authenticate"),
    )


async def _tell_alive(_request: Request) -> Response:
    return JSONResponse({"alive": True})


async def _explain(_request: Request, error: Exception) -> Response:
    """Answer for an unknown path, or a wrong method on one of the small paths."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse(
        {"detail": error.detail}, status_code=error.status_code, headers=error.headers
    )
