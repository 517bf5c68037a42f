"""A polling client of the two REST paths."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from concurrent.futures import Future
from http.client import HTTPException
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import (
    BaseHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    build_opener,
)

from stagecast.cli.target import Credentials
from stagecast.escaping import escape_json, lacks_characters
from stagecast.failures import reason_of
from stagecast.rest import DATASETS_STATUS_PATH, INDEXING_STATUS_PATH
from stagecast.v1 import resources_pb2 as r

_TIMEOUT_S = 10.0  # of a connection, and of each read
_TOTAL_TIMEOUT_S = 30.0  # of a whole response
_NOT_JSON = "the response is not JSON over HTTP"
_WRONG_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def paths_of(batch: r.Batch) -> tuple[str, str]:
    """Return the path of the batch's documents (Dify's) and that of its dataset (Cognee's)."""
    documents = INDEXING_STATUS_PATH.format(
        dataset_id=quote(batch.dataset_id), batch=quote(batch.batch_id)
    )
    return documents, f"{DATASETS_STATUS_PATH}?dataset={quote(batch.dataset_id)}"


def fetch(url: str, credentials: Credentials) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return the JSON at a URL; blocks, and uses no proxy.

    Raises:
        OSError: there is no response, or an error, or no JSON.
    """
    try:
        with _opener(credentials).open(url, timeout=_TIMEOUT_S) as response:
            body = response.read()
    except HTTPError as error:
        raise OSError(f"HTTP status {error.code}") from error
    except URLError as error:
        raise OSError(_cause(error.reason)) from error
    except TimeoutError as error:
        raise OSError(_cause(error)) from error
    except HTTPException as error:
        raise OSError(_NOT_JSON) from error
    try:
        return json.loads(body)
    except ValueError as error:
        raise OSError(_NOT_JSON) from error


async def fetch_on_thread(url: str, credentials: Credentials) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Fetch on a separate thread, which a cancelled caller does not wait for.

    Raises:
        OSError: see `fetch`; or the response is not complete in time.
    """
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(fetch(url, credentials))
        except BaseException as error:
            result.set_exception(error)

    result.set_running_or_notify_cancel()  # so that it cannot be cancelled while the thread runs
    # The program would wait for the loop's own threads at its end.
    Thread(target=run, daemon=True).start()
    try:
        async with asyncio.timeout(_TOTAL_TIMEOUT_S):
            return await asyncio.wrap_future(result)
    except TimeoutError as error:  # timeouts of the socket are an `OSError` already
        raise OSError(f"no complete response within {_TOTAL_TIMEOUT_S:g} s") from error


def _opener(credentials: Credentials) -> OpenerDirector:
    handlers: list[BaseHandler] = [ProxyHandler({})]
    if credentials.scheme == "https":
        handlers.append(HTTPSHandler(context=credentials.context()))
    opener = build_opener(*handlers)
    if credentials.key:
        opener.addheaders.append(("Authorization", f"Bearer {credentials.key}"))
    return opener


def _cause(reason: str | BaseException) -> str:
    """Return why a connection failed."""
    match reason:
        case ssl.SSLCertVerificationError() if reason.verify_code in _WRONG_HOST:
            return "its certificate is for another host"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({reason.verify_message})"
        case ssl.SSLError(
            reason="WRONG_VERSION_NUMBER" | "HTTP_REQUEST" | "PACKET_LENGTH_TOO_LONG"
        ):
            return "it does not use TLS; leave out --tls, --ca and --cert"
        case ssl.SSLError():
            return "TLS handshake failed; does it require a client certificate (--cert)?"
        case TimeoutError():
            return f"no response within {_TIMEOUT_S:g} s"
        case socket.gaierror():
            return "there is no such host"
        case OSError():
            return reason_of(reason)
    return str(reason)


def layout(response: Any, *, limit: int | None) -> str:  # noqa: ANN401 - whatever JSON it is
    """Return a response as JSON, with a line per document, at most `limit` of them."""
    match response:
        case {"data": [_, *_] as documents}:
            lines = [f"  {_json(row)}" for row in documents[:limit]]
            hidden = len(documents) - len(lines)
            rest = f",\n  … and {hidden} more" if hidden else ""
            return '{"data": [\n' + ",\n".join(lines) + rest + "\n]}"
    return _json(response)


def _json(response: Any) -> str:  # noqa: ANN401 - whatever JSON it is
    lacking = lacks_characters(sys.stdout.encoding or "utf-8")
    return escape_json(json.dumps(response, ensure_ascii=lacking))
