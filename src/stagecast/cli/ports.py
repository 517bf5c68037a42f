"""Ports that several processes share, held by one that does not listen.

With `SO_REUSEPORT` the kernel spreads connections over all sockets that listen, also over those of
another server that was given the same port by mistake. So a port is taken first as a server takes
it that shares it with nobody. The socket that holds it from then on is bound and never listens: it
gets no connections, and keeps others away even while none of our processes is alive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from stagecast.config import Config, split_address
from stagecast.errors import StartError
from stagecast.rest import cannot_listen

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

# A family, and an address as `bind` takes it.
_Target = tuple[socket.AddressFamily, tuple[Any, ...]]


@contextlib.contextmanager
def held_ports(config: Config) -> Iterator[Config]:
    """Hold the ports of a server during the block; give its settings with the real ones, to share.

    Raises:
        StartError: an address is unknown or taken, in the words of a server that shares nothing.
    """
    with contextlib.ExitStack() as stack:
        try:
            grpc = _hold(config.grpc, _targets_of_grpc(config.grpc), stack)
        except (OSError, UnicodeError) as error:
            raise StartError(
                f"cannot listen for gRPC on {config.grpc}: it is taken, or not of this machine"
            ) from error
        try:
            http = _hold(config.http, _resolve(config.http)[:1], stack)
        except (OSError, UnicodeError) as error:
            raise cannot_listen(config.http, error) from error
        yield dataclasses.replace(config, grpc=grpc, http=http, share_ports=True)


def check_ports(config: Config) -> None:
    """Make sure that a server which shares nothing can have its ports, before it makes a file.

    Raises:
        StartError: an address is unknown or taken.
    """
    with held_ports(config):
        pass


def _targets_of_grpc(address: str) -> list[_Target]:
    """Return all that gRPC listens on: every address of a name, and IPv6 with IPv4 if it can."""
    host, _, port = address.rpartition(":")
    if host == "0.0.0.0" and socket.has_dualstack_ipv6():  # noqa: S104 - nobody listens
        return _resolve(f"[::]:{port}")
    if host == "localhost":
        return [*_resolve(f"127.0.0.1:{port}"), *_resolve(f"[::1]:{port}")]
    return _resolve(address)


def _resolve(address: str) -> list[_Target]:
    host, port = split_address(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A hosts file may name an address twice, and it can be held only once.
    return list(dict.fromkeys((family, target) for family, _, _, _, target in found))


def _hold(address: str, targets: Iterable[_Target], stack: contextlib.ExitStack) -> str:
    """Hold one port on all targets that this machine has; return the address with that port."""
    held: int | None = None
    missing: OSError | None = None
    for family, (host, port, *rest) in targets:
        try:
            holder = _take(family, (host, held or port, *rest))
        except OSError as error:
            # A name may have an IPv6 address where there is no IPv6.
            if error.errno not in _NOT_HERE:
                raise
            missing = error
        else:
            held = stack.enter_context(holder).getsockname()[1]
    if held is None and missing is not None:
        raise missing
    return f"{address.rpartition(':')[0]}:{held}"


def _take(family: socket.AddressFamily, target: tuple[Any, ...]) -> socket.socket:
    """Return a socket that holds a port which is nobody else's."""
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    with contextlib.ExitStack() as stack:
        # Only a socket that listens finds out about all others, and only one that shares lets the
        # holder in beside it.
        first = stack.enter_context(
            socket.create_server(target, family=family, dualstack_ipv6=dual)
        )
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if dual:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        holder.bind(first.getsockname())
        # It was for connections that linger from an earlier server. From now on it would let a
        # server listen that shares with nobody.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        first.close()
        stack.pop_all()
    return holder
