"""A held port answers no connections and is refused to other servers, until it is shared."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from stagecast.config import Config, split_address
from stagecast.errors import StartError
from stagecast.listening import check_ports, held_ports, listen_once
from tests.process import free_address

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT spreads nothing here")

ANY = Config(grpc="127.0.0.1:0", http="127.0.0.1:0")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - no connection is answered


@pytest.fixture
def held() -> Iterator[Config]:
    with held_ports(ANY) as config:
        yield config


def share(address: str) -> socket.socket:
    """Listen as one of several processes."""
    return socket.create_server(split_address(address), reuse_port=True)


def connect(address: str) -> socket.socket:
    return socket.create_connection(split_address(address), timeout=60)


def test_port_0_becomes_a_real_shared_port(held: Config) -> None:
    for address in (held.grpc, held.http):
        host, port = split_address(address)
        assert host == "127.0.0.1"
        assert port > 0
    assert held == dataclasses.replace(ANY, grpc=held.grpc, http=held.http, share_ports=True)


def test_held_port_refuses_connections_until_a_server_listens(held: Config) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect(held.grpc)
    with share(held.grpc) as listener, connect(held.grpc):
        accepted, _ = listener.accept()
        accepted.close()


def test_connections_go_to_all_listeners_and_never_to_the_holder(held: Config) -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(share(held.http)) for _ in range(3)]
        for _ in range(60):
            stack.enter_context(connect(held.http))
        answered = [_accept_all(listener) for listener in listeners]
    assert sum(answered) == 60
    assert all(answered)


def _accept_all(listener: socket.socket) -> int:
    listener.setblocking(False)
    number = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            number += 1
    return number


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE, "[::]"])
@pytest.mark.parametrize("listening", [False, True])
def test_held_port_is_refused_to_other_servers(held: Config, host: str, listening: bool) -> None:
    other = f"{host}:{split_address(held.grpc)[1]}"
    with share(held.grpc) if listening else contextlib.nullcontext():
        with pytest.raises(StartError, match="gRPC"), held_ports(_grpc_at(other)):
            pass
        with pytest.raises(StartError, match="HTTP"), held_ports(_http_at(other)):
            pass
        with pytest.raises(OSError, match="in use"):
            socket.create_server(split_address(held.grpc))


def test_grpc_and_http_cannot_use_one_port() -> None:
    address = free_address()
    config = Config(grpc=address, http=address)
    with pytest.raises(StartError, match=f"HTTP on {address}"), held_ports(config):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_lingering_connections_of_an_earlier_server_do_not_matter(shared: bool) -> None:
    with contextlib.ExitStack() as stack:
        if shared:
            config = stack.enter_context(held_ports(ANY))
            listener = stack.enter_context(share(config.grpc))
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        client = stack.enter_context(connect(address))
        listener.accept()[0].close()  # the side that closes first has the lingering connection
        assert client.recv(1) == b""
    with held_ports(_grpc_at(address)) as again, share(again.grpc), connect(again.grpc):
        assert again.grpc == address


def test_port_is_free_after_the_block() -> None:
    with held_ports(ANY) as config:
        pass
    for address in (config.grpc, config.http):
        socket.create_server(split_address(address)).close()


@pytest.mark.parametrize("host", ["localhost", EVERYWHERE])
def test_grpc_holds_all_addresses_that_it_listens_on(host: str) -> None:
    with held_ports(_grpc_at(f"{host}:0")) as config:
        port = split_address(config.grpc)[1]
        assert config.grpc == f"{host}:{port}"
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if _is_local(family, address):
                with pytest.raises(OSError, match="in use"):
                    socket.create_server((address, port), family=family)


def _is_local(family: socket.AddressFamily, address: str) -> bool:
    try:
        socket.create_server((address, 0), family=family).close()
    except OSError:
        return False
    return True


ADVICE = "stop the program that listens there, or use another address with {option}"


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", f"Address already in use; {ADVICE}"),
        ("192.0.2.1", "Cannot assign requested address"),
    ],
)
@pytest.mark.parametrize("check", [held_ports, check_ports], ids=["held", "checked"])
def test_error_names_protocol_address_and_reason(
    host: str, why: str, check: Callable[[Config], object]
) -> None:
    """With several processes, and with one."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"{host}:{other.getsockname()[1]}"
        for protocol, config in (("gRPC", _grpc_at(address)), ("HTTP", _http_at(address))):
            with pytest.raises(StartError) as refusal:
                _check(check, config)
            reason = why.format(option=f"--{protocol.lower()}")
            assert str(refusal.value) == f"cannot listen for {protocol} on {address}: {reason}"


def _check(check: Callable[[Config], object], config: Config) -> None:
    checked = check(config)
    if isinstance(checked, contextlib.AbstractContextManager):
        with checked:
            pass


def test_listen_once_raises_the_reason_why_grpc_cannot_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        listen_once(f"127.0.0.1:{other.getsockname()[1]}", share_port=False)
    listen_once(free_address(), share_port=False)


@pytest.mark.parametrize("host", ["192.0.2.1", "256.1.1.1"])
def test_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(StartError, match="cannot listen for gRPC on"):
        held_ports(_grpc_at(f"{host}:0")).__enter__()
    with pytest.raises(StartError, match="cannot listen for HTTP on"):
        held_ports(_http_at(f"{host}:0")).__enter__()


def _grpc_at(address: str) -> Config:
    return dataclasses.replace(ANY, grpc=address)


def _http_at(address: str) -> Config:
    return dataclasses.replace(ANY, http=address)
