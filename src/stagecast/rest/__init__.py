"""The two HTTP paths that existing clients poll, in the legacy words that live here alone."""

from __future__ import annotations

from stagecast.rest.app import make_rest_app
from stagecast.rest.server import HttpServer

__all__ = ["HttpServer", "make_rest_app"]
