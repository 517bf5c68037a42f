"""The undocumented names of uvicorn that are used exist in the installed version.

They are why `pyproject.toml` bounds its version. If one is missing, read the changes of uvicorn,
adapt `rest/server.py`, `rest/protocol.py` and `rest/response_cycle.py`, then raise the bound.
"""

from __future__ import annotations

import ast
import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

# Called, overridden, read or set.
USED: dict[type, tuple[str, ...]] = {
    uvicorn.Config: ("backlog", "http_protocol_class", "load", "ssl", "timeout_graceful_shutdown"),
    uvicorn.Server: (
        *("capture_signals", "main_loop", "serve", "startup"),
        *("config", "server_state", "servers", "should_exit", "started"),
    ),
    ServerState: ("connections",),
    HttpToolsProtocol: (
        *("connection_lost", "connection_made", "data_received"),
        *("on_body", "on_header", "on_headers_complete", "on_message_begin"),
        *("on_message_complete", "on_response_complete", "on_url", "_unset_keepalive_if_required"),
        *("connections", "cycle", "headers", "loop", "parser", "pipeline", "scope", "transport"),
        *("url", "config", "server_state", "app_state"),
        *("_start_asgi_task", "pause_writing", "access_logger", "app", "expect_100_continue"),
        *("flow", "logger"),
    ),
    RequestResponseCycle: (
        *("send", "default_headers", "disconnected", "expected_content_length", "flow"),
        *("keep_alive", "message_event", "on_response", "response_complete", "response_started"),
        *("scope", "transport", "waiting_for_100_continue"),
    ),
}


def names_of(owner: type) -> set[str]:
    """Return the methods of a class, and the attributes that they use."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(owner))))
    methods = {
        node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return methods | {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }


@pytest.mark.parametrize("owner", USED)
def test_uvicorn_has_every_name_that_is_used(owner: type) -> None:
    missing = sorted({*USED[owner]} - names_of(owner))
    assert not missing, (
        f"uvicorn {uvicorn.__version__}: {owner.__name__} has no {', '.join(missing)}; "
        "adapt server.py, protocol.py and response_cycle.py of stagecast/rest, then the bound"
    )


def test_uvicorn_makes_a_protocol_of_the_expected_arguments() -> None:
    parameters = inspect.signature(HttpToolsProtocol).parameters
    required = {name for name, one in parameters.items() if one.default is one.empty}
    assert required == {"config", "server_state", "app_state"}, uvicorn.__version__


def test_uvicorn_makes_a_response_cycle_of_the_expected_arguments() -> None:
    assert list(inspect.signature(RequestResponseCycle).parameters) == [
        *("scope", "transport", "flow", "logger", "access_logger", "access_log"),
        *("default_headers", "message_event", "expect_100_continue", "keep_alive", "on_response"),
    ], uvicorn.__version__
