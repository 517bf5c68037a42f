"""The server itself: addresses, unknown methods, reflection."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.rpc.server import _grpc_limits
from tests.grpc_calls import unary_unary
from tests.rpc.calls import Calls

OURS = {
    "stagecast.v1.ControlService",
    "stagecast.v1.ReportService",
    "stagecast.v1.StatusService",
}
STANDARD = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
REFLECTIONS = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def _start_error(config: Config) -> str:
    with pytest.raises(StartError) as caught:
        async with App(config):
            pass
    return str(caught.value)


async def test_port_zero_picks_a_free_one(server: App) -> None:
    host, _, port = server.grpc_address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


async def test_two_servers_cannot_share_a_port_silently(
    server: App, config: Config, tmp_path: Path
) -> None:
    second = dataclasses.replace(config, db=tmp_path / "second.db", grpc=server.grpc_address)
    message = await _start_error(second)
    assert server.grpc_address in message
    async with Stubs(server.grpc_address) as client:  # the first is not disturbed
        await Calls(client, "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11").create("a")


async def test_servers_share_a_port_on_request(config: Config) -> None:
    shared = dataclasses.replace(config, share_ports=True)
    async with App(shared) as first:
        addresses: dict[str, Any] = {"grpc": first.grpc_address, "http": first.http_address}
        async with App(dataclasses.replace(shared, **addresses)) as second:
            assert second.grpc_address == first.grpc_address
            assert first.grpc_address in await _start_error(
                dataclasses.replace(config, grpc=first.grpc_address)
            )


async def test_address_in_use_is_reported_in_one_clear_line(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as started:
        address = f"127.0.0.1:{started.getsockname()[1]}"
        message = await _start_error(dataclasses.replace(config, grpc=address))
    assert address in message
    assert "\n" not in message
    assert "GRPC_VERBOSITY" not in message, "grpc's hint does not help users"


@pytest.mark.parametrize(
    "address",
    [
        *("", ":0", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1:-1"),
        *("::1", "[::1]", "[::1:0", "256.1.1.1:0", "127.0.0.1:80:80", "http://127.0.0.1:0"),
        *("127.0.0.1:0/path", " 127.0.0.1:0", "127.0.0.1:٣"),
    ],
)
async def test_malformed_address_is_reported_in_one_clear_line(
    config: Config, address: str
) -> None:
    message = await _start_error(dataclasses.replace(config, grpc=address))
    assert "\n" not in message
    assert address in message


async def test_server_can_be_started_after_a_failed_start(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as started:
        address = f"127.0.0.1:{started.getsockname()[1]}"
        await _start_error(dataclasses.replace(config, grpc=address))
    async with App(dataclasses.replace(config, grpc=address)) as app:
        assert app.grpc_address == address


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
async def test_server_listens_on_ipv6(config: Config, dataset_id: str) -> None:
    async with App(dataclasses.replace(config, grpc="[::1]:0")) as app:
        assert app.grpc_address.startswith("[::1]:")
        assert not app.grpc_address.endswith(":0")
        async with Stubs(app.grpc_address) as client:
            assert (await Calls(client, dataset_id).create("a")).batch.revision == 3


async def test_unknown_service_and_unknown_rpc_are_unimplemented(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        for path in ("/stagecast.v1.StatusService/Nope", "/stagecast.v2.StatusService/GetBatch"):
            with pytest.raises(aio.AioRpcError) as caught:
                await unary_unary(channel, path)(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def _reflect(
    server: App, package: str, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    async with aio.insecure_channel(server.grpc_address) as channel:
        reflect = channel.stream_stream(
            f"/{package}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        [response] = [answer async for answer in reflect(iter([request]))]
        return response


@pytest.mark.parametrize("package", REFLECTIONS)
async def test_reflection_lists_all_services(server: App, package: str) -> None:
    requested = reflection_pb2.ServerReflectionRequest(list_services="")
    response = await _reflect(server, package, requested)
    listed = [service.name for service in response.list_services_response.service]
    assert len(listed) == len(set(listed))
    assert set(listed) == OURS | STANDARD


@pytest.mark.parametrize("package", REFLECTIONS)
@pytest.mark.parametrize("service", sorted(OURS | STANDARD))
async def test_reflection_describes_every_listed_service_and_its_imports(
    server: App, package: str, service: str
) -> None:
    requested = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    response = await _reflect(server, package, requested)
    shown = response.file_descriptor_response.file_descriptor_proto
    files = [FileDescriptorProto.FromString(each) for each in shown]
    assert service in {f"{each.package}.{actual.name}" for each in files for actual in each.service}
    assert {path for each in files for path in each.dependency} <= {each.name for each in files}


@pytest.mark.parametrize("package", REFLECTIONS)
async def test_reflection_of_an_unknown_symbol_is_not_found(server: App, package: str) -> None:
    requested = reflection_pb2.ServerReflectionRequest(file_containing_symbol="stagecast.v1.Nope")
    response = await _reflect(server, package, requested)
    assert response.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_durations_below_a_millisecond_are_not_rounded_to_zero() -> None:
    """With zero for idle connections, grpc closes each before its first call."""
    short = 0.0001
    config = Config(
        http_idle_s=short, request_s=short, keepalive_s=short, keepalive_timeout_s=short
    )
    limits = {name: value for name, value in _grpc_limits(config) if name.endswith("_ms")}
    assert len(limits) == 5
    assert set(limits.values()) == {1}
    assert dict(_grpc_limits(Config(http_idle_s=1.5)))["grpc.max_connection_idle_ms"] == 1_500
