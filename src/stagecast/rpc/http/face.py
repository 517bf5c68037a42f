"""The paths of the RPCs over HTTP."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

import grpc
from starlette import types

from stagecast.escaping import quote
from stagecast.rpc.http.call import answer
from stagecast.rpc.http.events import EventStream
from stagecast.rpc.http.failure import Failure
from stagecast.rpc.http.method import Run, find_methods
from stagecast.rpc.http.shared_events import SharedEvents
from stagecast.rpc.http.unary import CONTENT_TYPES, UnaryCall, media_type

_PACKAGE = "/stagecast.v1."
_STATUS = _PACKAGE + "StatusService/"

# The watches, and what distinguishes their messages from heartbeats.
_STREAMS = (
    (
        re.compile("/v1/datasets/(?P<dataset_id>[^/]+)/batches/(?P<batch_id>[^/]+)/watch"),
        _STATUS + "WatchBatch",
        ("snapshot", "transitions", "progress"),
    ),
    (
        re.compile("/v1/datasets/watch"),
        _STATUS + "WatchDatasets",
        ("datasets", "removed_dataset_ids", "complete"),
    ),
)


class RpcOverHttp:
    """An ASGI application that serves RPCs.

    Args:
        runs: the steps of the RPCs, by their paths.
        max_bytes: of the body of a request.
        needs_credentials: whether calls need credentials now. While they do not, pages under a name
            of somebody else must not write: a name may be pointed at this server after its page was
            loaded (DNS rebinding), and the browser would let the page call.
        origins: whose pages may write all the same.
    """

    def __init__(
        self,
        runs: Mapping[str, Run],
        *,
        max_bytes: int,
        needs_credentials: Callable[[], bool],
        origins: Collection[str],
    ) -> None:
        self._methods = find_methods(runs)
        self._needs_credentials = needs_credentials
        self._origins = origins
        self._max_bytes = max_bytes
        self._streams = [
            (pattern, (method := self._methods[path]), SharedEvents(method.response, news))
            for pattern, path, news in _STREAMS
        ]

    def serves(self, path: str) -> bool:
        """Return whether a path is one of its own."""
        return path.startswith(_PACKAGE) or any(
            pattern.fullmatch(path) for pattern, *_ in self._streams
        )

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Serve a request."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        for pattern, method, events in self._streams:
            if named := pattern.fullmatch(path):
                stream = EventStream(method, events, named.groupdict(), scope, receive, send)
                await self._watch(stream)
                return
        await self._call(path, scope, receive, send)

    async def _watch(self, stream: EventStream) -> None:
        if stream.scope["method"] == "GET":
            await stream.run()
        else:
            await _refuse(stream.send, 405, "use GET", (b"allow", b"GET"))

    async def _call(
        self, path: str, scope: types.Scope, receive: types.Receive, send: types.Send
    ) -> None:
        method = self._methods.get(path)
        if method is None:
            await _refuse(send, 404, f"no RPC {path}")
        elif scope["method"] != "POST":
            await _refuse(send, 405, "use POST", (b"allow", b"POST"))
        elif method.streams:
            await _refuse(send, 501, "this RPC is a stream: see the guide for its path over HTTP")
        elif _content_type(scope) not in CONTENT_TYPES:
            accepted = ", ".join(CONTENT_TYPES)
            await _refuse(
                send, 415, f"Content-Type must be {accepted}", (b"accept-post", accepted.encode())
            )
        elif origin := self._strange_origin(path, scope):
            await _refuse(
                send,
                403,
                f"pages of {quote(origin)} may not write here: start the server with "
                "--cors-origin for this origin, or require keys",
                code=grpc.StatusCode.PERMISSION_DENIED,
            )
        else:
            await UnaryCall(method, scope, receive, send, max_bytes=self._max_bytes).run()

    def _strange_origin(self, path: str, scope: types.Scope) -> str:
        """Return the origin of a page that must not make this call, empty if it may."""
        if path.startswith(_STATUS):
            return ""
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        strange = [origin for origin in values if not (origin in self._origins or _is_own(origin))]
        return strange[0] if strange and not self._needs_credentials() else ""


def _is_own(origin: str) -> bool:
    """Return whether an origin has an IP address or `localhost`, which cannot be rebound."""
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _content_type(scope: types.Scope) -> str:
    values = [value for name, value in scope["headers"] if name == b"content-type"]
    return media_type(values[-1].decode("latin-1")) if values else ""


async def _refuse(
    send: types.Send,
    status: int,
    message: str,
    *headers: tuple[bytes, bytes],
    code: grpc.StatusCode = grpc.StatusCode.UNIMPLEMENTED,
) -> None:
    """Refuse what is not a call, with a status that Connect's clients know."""
    failure = Failure(code=code, message=message)
    await answer(send, status, [*failure.headers(), *headers], failure.body())
