"""The undocumented names of uvicorn that are used exist in the installed version.

They are why `pyproject.toml` bounds its version. If one is missing, read the changes of uvicorn,
adapt `rest/server.py` and `rest/protocol.py`, and then raise the bound.
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
        *("capture_signals", "main_loop", "on_tick", "serve", "startup"),
        *("config", "server_state", "servers", "should_exit", "started"),
    ),
    ServerState: ("connections",),
    HttpToolsProtocol: (
        *("connection_lost", "connection_made", "data_received"),
        *("on_body", "on_header", "on_headers_complete", "on_message_begin"),
        *("on_message_complete", "on_response_complete", "on_url", "_unset_keepalive_if_required"),
        *("connections", "cycle", "headers", "loop", "parser", "pipeline", "scope", "transport"),
        *("url", "config", "server_state", "app_state"),
    ),
    RequestResponseCycle: ("disconnected", "response_complete"),
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
        "adapt stagecast/rest/server.py and protocol.py, then the bound in pyproject.toml"
    )


def test_uvicorn_makes_a_protocol_of_the_expected_arguments() -> None:
    parameters = inspect.signature(HttpToolsProtocol).parameters
    required = {name for name, one in parameters.items() if one.default is one.empty}
    assert required == {"config", "server_state", "app_state"}, uvicorn.__version__
