"""The application of the page: two documents, its static files, its icon, and signing in.

Everything comes from this server: the policy of the documents forbids the rest, and inline code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from urllib.parse import quote

import jinja2
from starlette import types
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from stagecast.auth import Authenticator, Sessions, bearer_of, forgery_token
from stagecast.errors import CredentialsError, DeniedError
from stagecast.model import Caller, Scope
from stagecast.web.cookies import session_of, set_session

_PREFIXES = ("/datasets/", "/icons/", "/session", "/static/")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # A page holds what its reader may do, so it is nobody else's.
    "Cache-Control": "no-store",
}
_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}
_FOR_EVER = "public, max-age=31536000, immutable"  # a changed file has another path
_ICON_STATES = {"running": "#2563eb", "attention": "#c2410c", "done": "#15803d", "idle": "#64748b"}
_ICON_STEPS = 20


class LivePage:
    """The application of the page.

    Args:
        authenticator: maps credentials to callers.
        sessions: of browsers that have signed in.
        grpc_address: where gRPC listens, for the commands that the page suggests.
        root_path: the path prefix of a proxy.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        sessions: Sessions,
        grpc_address: Callable[[], str],
        root_path: str = "",
    ) -> None:
        files = _StaticFiles()
        documents = _Documents(authenticator, grpc_address, quote(root_path), files.path)
        signing_in = _SigningIn(authenticator, sessions)
        batch = "/datasets/{dataset_id}/batches/{batch_id}"
        self._app = Starlette(
            routes=[
                Route("/", documents.overview, methods=["GET"]),
                Route(batch, documents.batch, methods=["GET"]),
                Route("/icons/{state}-{step:int}.svg", documents.icon, methods=["GET"]),
                Route("/session", signing_in.begin, methods=["POST"]),
                Route("/session", signing_in.end, methods=["DELETE"]),
                Route(files.path + "/{name}", files.get, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )
        self._app.router.redirect_slashes = False

    def serves(self, path: str) -> bool:
        """Return whether a path is one of the page, or would be."""
        return path == "/" or path.startswith(_PREFIXES)

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Answer a request for one of its paths."""
        await self._app(scope, receive, send)


class _Documents:
    """The HTML documents, and the icon that shows progress in the list of tabs."""

    def __init__(
        self,
        authenticator: Authenticator,
        grpc_address: Callable[[], str],
        root: str,
        static_path: str,
    ) -> None:
        self._authenticator = authenticator
        self._grpc_address = grpc_address
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("stagecast.web"),
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.globals |= {"root": root, "static": root + static_path}
        self._templates = Jinja2Templates(env=environment)

    async def overview(self, request: Request) -> Response:
        """Return the overview to a browser; other clients look for no page here."""
        if "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return self._shown(request, "overview.html")

    async def batch(self, request: Request) -> Response:
        """Return the page of a batch; whether there is one, its watch will say."""
        return self._shown(request, "batch.html", **request.path_params)

    async def icon(self, request: Request) -> Response:
        """Return an icon: a circle that is filled by so many steps."""
        colour = _ICON_STATES.get(request.path_params["state"])
        step = request.path_params["step"]
        if colour is None or step > _ICON_STEPS:
            raise HTTPException(404)
        context = {"colour": colour, "done": 100 * step // _ICON_STEPS}
        return self._templates.TemplateResponse(
            request,
            "icon.svg",
            context,
            media_type="image/svg+xml",
            headers={"Cache-Control": "public, max-age=86400"},
        )

    def _shown(self, request: Request, name: str, **context: str) -> Response:
        try:
            caller = _caller(self._authenticator, request.headers)
        except (CredentialsError, DeniedError) as error:
            return self._sign_in(request, error)
        session = session_of(request.scope)
        context |= {
            "grpc": self._grpc_address(),
            "scopes": " ".join(sorted(caller.principal.scopes)),
            "name": caller.principal.name if self._authenticator.on else "",
            "forgery_token": forgery_token(session) if session else "",
            "signed_in": "yes" if session and self._authenticator.on else "",
        }
        return self._templates.TemplateResponse(request, name, context, headers=_HEADERS)

    def _sign_in(self, request: Request, error: CredentialsError | DeniedError) -> Response:
        """Return the form; it says what is wrong with a session, but nothing at a first visit."""
        problem = ""
        if isinstance(error, DeniedError):
            problem = str(error)
        elif session_of(request.scope):
            problem = "The session has ended. Sign in again."
        return self._templates.TemplateResponse(
            request, "sign_in.html", {"problem": problem}, status_code=401, headers=_HEADERS
        )


class _SigningIn:
    """Exchanges a key for a cookie. The key comes in a header, which no form elsewhere can set."""

    def __init__(self, authenticator: Authenticator, sessions: Sessions) -> None:
        self._authenticator = authenticator
        self._sessions = sessions

    async def begin(self, request: Request) -> Response:
        """Set a cookie for the key in the header."""
        response = Response(status_code=204)
        credentials = _credentials(request.headers)[:1]  # the one that the session will hold
        try:
            self._authenticator.admit(lambda: credentials, Scope.READ)
            if not self._authenticator.on:
                return response
            session = self._sessions.begin(*credentials)
        except (CredentialsError, DeniedError) as error:
            return JSONResponse({"message": str(error)}, status_code=401)
        set_session(response, request.scope, session)
        return response

    async def end(self, request: Request) -> Response:
        """Remove the cookie."""
        response = Response(status_code=204)
        set_session(response, request.scope, None)
        return response


class _StaticFiles:
    """The static files, in memory; their path has a digest of all, so that browsers keep them.

    One digest serves all, since they import each other by name.
    """

    def __init__(self) -> None:
        folder = resources.files("stagecast.web") / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}
        digest = hashlib.blake2b(digest_size=8)
        for name, content in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + content)
        self.path = f"/static/{digest.hexdigest()}"

    async def get(self, request: Request) -> Response:
        """Return a file, which may be kept for ever."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        return Response(
            self._files[name],
            media_type=_MEDIA_TYPES[name.rpartition(".")[2]],
            headers={"Cache-Control": _FOR_EVER, "X-Content-Type-Options": "nosniff"},
        )


def _caller(authenticator: Authenticator, headers: Headers) -> Caller:
    """Return who may read.

    Raises:
        CredentialsError, DeniedError: the credentials are not valid, or do not suffice.
    """
    return authenticator.admit(lambda: _credentials(headers), Scope.READ)


def _credentials(headers: Headers) -> Sequence[str]:
    bearers = map(bearer_of, headers.getlist("authorization"))
    return (*headers.getlist("x-api-key"), *filter(None, bearers))


async def _http_error(_request: Request, error: Exception) -> Response:
    """Return an error like those of other unknown paths."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
