"""The HTTP application: which path is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stagecast.auth import Authenticator
from stagecast.grace import Grace
from stagecast.notifier import Notifier
from stagecast.rest import cognee, dify
from stagecast.rest.content import Content, respond
from stagecast.rest.openapi import describe
from stagecast.service.queries import Queries

# All but Dify's, which is not found with a slash behind it.
_WITHOUT_SLASH = (cognee.PATH, "/openapi.json", "/healthz", "/readyz")


def make_rest_app(
    queries: Queries,
    notifier: Notifier,
    *,
    authenticator: Authenticator,
    is_ready: Callable[[], bool],
    store_s: float,
    grace: Grace,
    cors_origins: Sequence[str] = (),
    root_path: str = "",
) -> Starlette:
    """Return the application.

    Args:
        queries: what answers the two paths.
        notifier: tells when an answer is worth nothing any more.
        authenticator: says who may ask for the two paths; the others are open.
        is_ready: whether the store can be written and the server is not draining; `/readyz` tells.
        store_s: how long an answer of the two paths may wait for the store.
        grace: how long when the server stops.
        cors_origins: whose pages a browser lets read the answers; none if it is empty.
        root_path: what a proxy has before all paths, whether or not it passes it on.
    """
    ours = [
        Route(
            dify.PATH,
            dify.IndexingStatus(queries, notifier, authenticator, store_s=store_s, grace=grace),
        ),
        Route(
            cognee.PATH,
            cognee.DatasetsStatus(queries, notifier, authenticator, store_s=store_s, grace=grace),
        ),
        *_open_routes(describe(root_path), is_ready),
        *(Route(path + "/", _ToPath(path)) for path in _WITHOUT_SLASH),
    ]
    app = Starlette(
        routes=[
            *ours,
            Route(dify.PREFIX, dify.UNKNOWN_PATH),
            Route(dify.PREFIX + "/{path:path}", dify.UNKNOWN_PATH),
        ],
        middleware=[
            *([Middleware(_RootPath, unquote(root_path), ours)] if root_path else []),
            *([_allow(cors_origins)] if cors_origins else []),
        ],
        exception_handlers={HTTPException: _explain, Exception: _explain_bug},
    )
    app.router.redirect_slashes = False
    return app


def _open_routes(openapi: Content, is_ready: Callable[[], bool]) -> list[Route]:
    """Return the routes that need no credentials."""

    async def get_openapi(request: Request) -> Response:
        return respond(request, openapi)

    async def get_liveness(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def get_readiness(_request: Request) -> Response:
        ready = is_ready()
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    return [
        Route("/openapi.json", get_openapi),
        Route("/healthz", get_liveness),
        Route("/readyz", get_readiness),
    ]


class _RootPath:
    """Has every path below a prefix, also when a proxy, or a probe, has left it out.

    Our own paths may begin like the prefix, such as `/v1`: one of them is never cut.
    """

    def __init__(self, app: ASGIApp, root_path: str, ours: Sequence[Route]) -> None:
        self._app = app
        self._root_path = root_path
        self._ours = ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._is_ours(scope) or not path.startswith(self._root_path + "/"):
            path = self._root_path + path
        await self._app({**scope, "root_path": self._root_path, "path": path}, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._ours)


class _Cors(CORSMiddleware):
    """Lets pages of other origins ask; who may not is told so as of all other errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before a page's request."""
        response = super().preflight_response(request_headers)
        return response if response.status_code < 400 else _RefusedPreflight(response)


class _RefusedPreflight(Response):
    """Says why a page may not ask, in the style of the errors of the path that it is asked of."""

    def __init__(self, refused: Response) -> None:
        super().__init__(status_code=refused.status_code)
        self._reason = bytes(refused.body).decode()
        self._kept = {
            name: value
            for name, value in refused.headers.items()
            if not name.startswith("content-")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == dify.PREFIX or path.startswith(dify.PREFIX + "/"):
            response = dify.envelope(400, "bad_request", self._reason, self._kept)
        else:
            response = JSONResponse({"detail": self._reason}, 400, self._kept)
        await response(scope, receive, send)


class _ToPath:
    """Sends clients that put a slash behind a path to the path.

    It names no host and no scheme: a proxy may have others.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        url = quote(scope.get("root_path", "")) + self._path + (f"?{query}" if query else "")
        await RedirectResponse(url)(scope, receive, send)


def _allow(origins: Sequence[str]) -> Middleware:
    """Let pages of these origins ask with whatever credentials they have, as Cognee's do."""
    return Middleware(
        _Cors,
        allow_origins=origins,
        allow_credentials=True,
        allow_methods=("GET", "HEAD"),
        allow_headers=("*",),
        expose_headers=("ETag", "Retry-After", "WWW-Authenticate"),
    )


async def _explain(request: Request, error: Exception) -> Response:
    """Answer for an unknown path, or a wrong method on one of the small paths."""
    if not isinstance(error, HTTPException):
        raise error
    if request.method == "OPTIONS" and request.scope.get("raw_path") == b"*":
        return Response(status_code=204, headers={"Allow": "GET, HEAD"})
    return JSONResponse(
        {"detail": error.detail}, status_code=error.status_code, headers=error.headers
    )


async def _explain_bug(_request: Request, _error: Exception) -> Response:
    """Answer for a bug, which is logged elsewhere."""
    return JSONResponse({"detail": "Internal Server Error"}, status_code=500)
