"""The two REST answers, fetched over HTTP as clients that poll do."""

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
_WHOLE_S = 30.0  # of an answer that drips
_NO_HTTP = "what answers there does not speak HTTP and JSON"
_OTHER_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def paths_of(batch: r.Batch) -> tuple[str, str]:
    """Return the path of the batch's documents (Dify's) and that of its dataset (Cognee's)."""
    documents = INDEXING_STATUS_PATH.format(
        dataset_id=quote(batch.dataset_id), batch=quote(batch.batch_id)
    )
    return documents, f"{DATASETS_STATUS_PATH}?dataset={quote(batch.dataset_id)}"


def fetch(url: str, access: Credentials) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return what a URL answers; blocks, and asks no proxy.

    Raises:
        OSError: there is no answer, or one that refuses, or no JSON.
    """
    try:
        with _opener(access).open(url, timeout=_TIMEOUT_S) as response:
            body = response.read()
    except HTTPError as error:
        raise OSError(f"it answers {error.code}") from error
    except URLError as error:
        raise OSError(_why(error.reason)) from error
    except TimeoutError as error:
        raise OSError(_why(error)) from error
    except HTTPException as error:
        raise OSError(_NO_HTTP) from error
    try:
        return json.loads(body)
    except ValueError as error:
        raise OSError(_NO_HTTP) from error


async def fetched(url: str, access: Credentials) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Fetch on a thread of its own, for which a cancelled caller does not wait.

    Raises:
        OSError: see `fetch`; or the answer has not come whole in time.
    """
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(fetch(url, access))
        except BaseException as error:
            answer.set_exception(error)

    answer.set_running_or_notify_cancel()  # so that nothing cancels it under the thread
    # The loop's own threads are waited for at the end of the program.
    Thread(target=run, daemon=True).start()
    try:
        async with asyncio.timeout(_WHOLE_S):
            return await asyncio.wrap_future(answer)
    except TimeoutError as error:  # those of the socket are an `OSError` with words already
        raise OSError(f"no whole answer within {_WHOLE_S:g} s") from error


def _opener(access: Credentials) -> OpenerDirector:
    handlers: list[BaseHandler] = [ProxyHandler({})]
    if access.scheme == "https":
        handlers.append(HTTPSHandler(context=access.context()))
    opener = build_opener(*handlers)
    if access.key:
        opener.addheaders.append(("Authorization", f"Bearer {access.key}"))
    return opener


def _why(reason: str | BaseException) -> str:
    """Return why there is no connection; a cause is named only if it was looked at."""
    match reason:
        case ssl.SSLCertVerificationError() if reason.verify_code in _OTHER_HOST:
            return "its certificate is for another host"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({reason.verify_message})"
        case ssl.SSLError(
            reason="WRONG_VERSION_NUMBER" | "HTTP_REQUEST" | "PACKET_LENGTH_TOO_LONG"
        ):
            return "what answers there speaks no TLS; leave out --tls, --ca and --cert"
        case ssl.SSLError():
            return "TLS with it failed; does it want a certificate of yours (--cert)?"
        case TimeoutError():
            return f"no answer for {_TIMEOUT_S:g} s"
        case socket.gaierror():
            return "there is no such host"
        case OSError():
            return reason_of(reason)
    return str(reason)


def layout(answer: Any, *, limit: int | None) -> str:  # noqa: ANN401 - whatever JSON it is
    """Return an answer as JSON, with one line for each document, and only some if they are many."""
    match answer:
        case {"data": [_, *_] as documents}:
            lines = [f"  {_json(row)}" for row in documents[:limit]]
            hidden = len(documents) - len(lines)
            rest = f",\n  … and {hidden} more" if hidden else ""
            return '{"data": [\n' + ",\n".join(lines) + rest + "\n]}"
    return _json(answer)


def _json(answer: Any) -> str:  # noqa: ANN401 - whatever JSON it is
    lacking = lacks_characters(sys.stdout.encoding or "utf-8")
    return escape_json(json.dumps(answer, ensure_ascii=lacking))
