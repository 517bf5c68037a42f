"""The HTTP application: routes, CORS, and a proxy's path prefix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stagecast.auth import Authenticator
from stagecast.grace import Grace
from stagecast.rest import cognee, dify
from stagecast.rest.content import Content
from stagecast.rest.openapi import describe
from stagecast.store import Store

# A trailing slash redirects to these; Dify's path with one is not found.
_WITHOUT_SLASH = (cognee.PATH, cognee.PROGRESS_PATH, "/openapi.json", "/healthz", "/readyz")


_OF_COGNEE = {
    cognee.PATH: cognee.DatasetsStatus,
    cognee.PROGRESS_PATH: cognee.DatasetsProgress,
}


class Face(Protocol):
    """An application with paths of its own."""

    def serves(self, path: str) -> bool:
        """Return whether a path is one of its own, whatever the method."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for one of its paths."""
        ...


def make_rest_app(
    store: Store,
    *,
    authenticator: Authenticator,
    is_ready: Callable[[], bool],
    store_s: float,
    grace: Grace,
    faces: Sequence[Face] = (),
    cors_origins: Sequence[str] = (),
    root_path: str = "",
) -> ASGIApp:
    """Return the application.

    Args:
        store: read for the two paths.
        authenticator: for the two paths; the others need no credentials.
        is_ready: whether the store can be written and the server is not draining, for `/readyz`.
        store_s: how long a request to the two paths may wait for the store.
        grace: ends such waits when the server stops.
        faces: other applications; pages of another origin may not read them.
        cors_origins: origins whose pages may read the other responses; none if empty.
        root_path: the path prefix of a proxy, whether the proxy strips it or not.
    """
    open_routes = [
        *_open_routes(describe(root_path), is_ready),
        *(Route(path + "/", _SlashRedirect(path)) for path in _WITHOUT_SLASH),
    ]
    others = Starlette(
        routes=[
            *open_routes,
            Route(dify.PREFIX, dify.UNKNOWN_PATH),
            Route(dify.PREFIX + "/{path:path}", dify.UNKNOWN_PATH),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )
    others.router.redirect_slashes = False

    def shared(app: ASGIApp) -> ASGIApp:
        return _with_cors(app, cors_origins) if cors_origins else app

    app: ASGIApp = _Endpoints(
        shared(dify.IndexingStatus(store, authenticator, store_s=store_s, grace=grace)),
        {
            path: shared(endpoint(store, authenticator, store_s=store_s, grace=grace))
            for path, endpoint in _OF_COGNEE.items()
        },
        _Faces(faces, shared(others)),
    )
    return _RootPath(app, unquote(root_path), open_routes, faces) if root_path else app


class _Faces:
    """Passes each request to the face that serves its path, else to the other routes."""

    def __init__(self, faces: Sequence[Face], others: ASGIApp) -> None:
        self._faces = faces
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        app = next((face for face in self._faces if face.serves(path)), self._others)
        await app(scope, receive, send)


class _Endpoints:
    """Leads the paths that clients poll past the faces, routes and middleware of all others.

    These would cost a fifth of a cached answer.
    """

    def __init__(
        self, dify_path: ASGIApp, cognee_paths: Mapping[str, ASGIApp], others: ASGIApp
    ) -> None:
        self._dify = dify_path
        self._cognee = cognee_paths
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        root_path = scope.get("root_path")
        if root_path:
            path = path.removeprefix(root_path)
        if path in self._cognee:
            app = self._cognee[path]
        elif named := dify.PATTERN.fullmatch(path):
            scope["path_params"] = named.groups()
            app = self._dify
        else:
            app = self._others
        await app(scope, receive, send)


def _is_endpoint(path: str) -> bool:
    return path in _OF_COGNEE or dify.PATTERN.fullmatch(path) is not None


def _open_routes(openapi: Content, is_ready: Callable[[], bool]) -> list[Route]:
    """Return the routes that need no credentials."""

    async def get_liveness(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def get_readiness(_request: Request) -> Response:
        ready = is_ready()
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/healthz", get_liveness),
        Route("/readyz", get_readiness),
    ]


class _RootPath:
    """Adds the path prefix to requests in which a proxy, or a probe, has left it out.

    Our own paths may begin with the prefix, such as `/v1`: these always get it.
    """

    def __init__(
        self, app: ASGIApp, root_path: str, own_routes: Sequence[Route], faces: Sequence[Face]
    ) -> None:
        self._app = app
        self._root_path = root_path
        self._own_routes = own_routes
        self._faces = faces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._is_own(scope) or not path.startswith(self._root_path + "/"):
            path = self._root_path + path
        await self._app({**scope, "root_path": self._root_path, "path": path}, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        path = scope["path"]
        return (
            _is_endpoint(path)
            or any(face.serves(path) for face in self._faces)
            or any(route.matches(scope)[0] is not Match.NONE for route in self._own_routes)
        )


class _Cors(CORSMiddleware):
    """CORS with refusals in the same style as all other errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request."""
        response = super().preflight_response(request_headers)
        return response if response.status_code < 400 else _RefusedPreflight(response)


class _RefusedPreflight(Response):
    """Says why a preflight request was refused, in the error style of the requested path."""

    def __init__(self, refused: Response) -> None:
        super().__init__(status_code=refused.status_code)
        self._reason = bytes(refused.body).decode()
        self._extra_headers = {
            name: value
            for name, value in refused.headers.items()
            if not name.startswith("content-")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == dify.PREFIX or path.startswith(dify.PREFIX + "/"):
            response = dify.envelope(400, "bad_request", self._reason, self._extra_headers)
        else:
            response = JSONResponse({"detail": self._reason}, 400, self._extra_headers)
        await response(scope, receive, send)


class _SlashRedirect:
    """Redirects a path with a trailing slash to the path.

    The location has no scheme and no host, since those of a proxy may differ.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        url = quote(scope.get("root_path", "")) + self._path + (f"?{query}" if query else "")
        await RedirectResponse(url)(scope, receive, send)


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins send requests with credentials, as those of Cognee do."""
    return _Cors(
        app,
        allow_origins=origins,
        allow_credentials=True,
        allow_methods=("GET", "HEAD"),
        allow_headers=("*",),
        expose_headers=("ETag", "Retry-After", "WWW-Authenticate"),
    )


async def _http_error(request: Request, error: Exception) -> Response:
    """Return the response for an unknown path, or for a wrong method on an open path."""
    if not isinstance(error, HTTPException):
        raise error
    if request.method == "OPTIONS" and request.scope.get("raw_path") == b"*":
        return Response(status_code=204, headers={"Allow": "GET, HEAD"})
    return JSONResponse(
        {"detail": error.detail}, status_code=error.status_code, headers=error.headers
    )


async def _internal_error(_request: Request, _error: Exception) -> Response:
    """Return the response for a bug, which is logged elsewhere."""
    return JSONResponse({"detail": "Internal Server Error"}, status_code=500)
