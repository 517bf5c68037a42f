"""The HTTP/JSON API: the two paths that Dify and Cognee documented."""

from __future__ import annotations

from stagecast.rest.app import make_rest_app
from stagecast.rest.cognee import PATH as DATASETS_STATUS_PATH
from stagecast.rest.dify import PATH as INDEXING_STATUS_PATH
from stagecast.rest.server import HttpServer

__all__ = [
    "DATASETS_STATUS_PATH",
    "INDEXING_STATUS_PATH",
    "HttpServer",
    "make_rest_app",
]
