"""The undocumented names of grpc that are used exist in the installed version.

They are why `pyproject.toml` bounds its version. If one is missing, read the changes of grpc, adapt
`rpc/aio_server.py`, then raise the bound.
"""

from __future__ import annotations

import grpc
import pytest
from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # has no types

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.rpc import aio_server
from tests.clock import Clock
from tests.grpc_calls import unary_unary
from tests.rpc.calls import Calls

# The first version that accepts calls of each method by themselves.
REGISTERING = (1, 84)

OF_SERVER = ("_request_registered_call", "_request_call", "add_registered_method_handlers")
OF_MODULE = (
    *("_handle_rpc", "_handle_stream_stream_rpc", "_handle_stream_unary_rpc"),
    *("_MethodResolver", "_schedule_rpc_coro"),
)


@pytest.fixture(params=["installed", "older"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use grpc as it is, or as if it could not accept the calls of one method."""
    if request.param == "older":
        monkeypatch.setattr(aio_server, "_AioServer", object)


def test_grpc_has_every_name_that_is_used() -> None:
    major, minor = map(int, grpc.__version__.split(".")[:2])
    names = {OF_SERVER: cygrpc.AioServer, OF_MODULE: cygrpc}
    missing = [name for used, owner in names.items() for name in used if not hasattr(owner, name)]
    assert (major, minor) < REGISTERING or not missing, (
        f"grpc {grpc.__version__} has no {', '.join(missing)}; adapt rpc/aio_server.py, then the "
        "bound in pyproject.toml"
    )


@pytest.mark.usefixtures("version")
async def test_calls_streams_and_unknown_methods_are_answered(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(config, clock=clock) as server, Stubs(server.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        await calls.seal()
        await calls.stop()
        assert (await calls.watch())[-1].batch.sealed
        async with aio.insecure_channel(server.grpc_address) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await unary_unary(channel, "/stagecast.v1.StatusService/Unknown")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
