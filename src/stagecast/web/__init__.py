"""The live page: what a browser is shown at the HTTP address, and signing in to it."""

from __future__ import annotations

from stagecast.web.cookies import SessionCookies
from stagecast.web.host_check import HostCheck
from stagecast.web.page import LivePage

__all__ = [
    "HostCheck",
    "LivePage",
    "SessionCookies",
]
