"""The two REST answers, fetched over HTTP as clients that poll do."""

from __future__ import annotations

import json
import sys
from http.client import HTTPException
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

from stagecast.cli.server import Access
from stagecast.escaping import escape_json, lacks_characters
from stagecast.rest import DATASETS_STATUS_PATH, INDEXING_STATUS_PATH
from stagecast.v1 import resources_pb2 as r

_TIMEOUT_S = 10.0


def paths_of(batch: r.Batch) -> tuple[str, str]:
    """Return the path of the batch's documents (Dify's) and that of its dataset (Cognee's)."""
    documents = INDEXING_STATUS_PATH.format(
        dataset_id=quote(batch.dataset_id), batch=quote(batch.batch_id)
    )
    return documents, f"{DATASETS_STATUS_PATH}?dataset={quote(batch.dataset_id)}"


def fetch(url: str, access: Access) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return what a URL answers; blocks, and asks no proxy.

    Raises:
        OSError: there is no answer, or one that refuses, or no JSON.
    """
    try:
        with _opener(access).open(url, timeout=_TIMEOUT_S) as response:
            return json.load(response)
    except HTTPError as error:
        raise OSError(f"it answers {error.code} {error.reason}") from error
    except URLError as error:
        raise OSError(getattr(error.reason, "strerror", None) or str(error.reason)) from error
    except (HTTPException, ValueError) as error:
        raise OSError("what answers there does not speak HTTP and JSON") from error


def _opener(access: Access) -> OpenerDirector:
    handlers: list[BaseHandler] = [ProxyHandler({})]
    if access.scheme == "https":
        handlers.append(HTTPSHandler(context=access.context()))
    opener = build_opener(*handlers)
    if access.key:
        opener.addheaders.append(("Authorization", f"Bearer {access.key}"))
    return opener


def layout(answer: Any, *, most: int | None) -> str:  # noqa: ANN401 - whatever JSON it is
    """Return an answer as JSON, with one line for each document, and only some if they are many."""
    match answer:
        case {"data": [_, *_] as documents}:
            lines = [f"  {_json(row)}" for row in documents[:most]]
            hidden = len(documents) - len(lines)
            rest = f",\n  … and {hidden} more" if hidden else ""
            return '{"data": [\n' + ",\n".join(lines) + rest + "\n]}"
    return _json(answer)


def _json(answer: Any) -> str:  # noqa: ANN401 - whatever JSON it is
    lacking = lacks_characters(sys.stdout.encoding or "utf-8")
    return escape_json(json.dumps(answer, ensure_ascii=lacking))
