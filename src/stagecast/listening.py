"""Addresses that a server listens on: ports, checked and held, and the files of unix sockets.

gRPC does not report why it cannot listen, so that is found out here, by listening.

Ports that several processes share are held by a supervisor that does not listen.
With `SO_REUSEPORT` the kernel spreads connections over all listening sockets, also those of another
server that uses the same port by mistake. So a port is first bound without sharing. The socket that
holds it from then on is bound and never listens: it gets no connections, and keeps other servers
away even while none of our processes is alive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stagecast.config import MAX_SOCKET_PATH, Config, socket_path, split_address
from stagecast.errors import StartError
from stagecast.failures import reason_of

_NOT_LOCAL = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ADVICE = "; stop the program that listens there, or use another address with {option}"

# A family, and an address as `bind` takes it.
_Target = tuple[socket.AddressFamily, tuple[Any, ...]]


@contextlib.contextmanager
def held_ports(config: Config) -> Iterator[Config]:
    """Hold the ports of a server during the block; yield its settings with real, shared ports.

    Raises:
        StartError: an address is unknown or in use.
    """
    with contextlib.ExitStack() as stack:
        with reporting_listen_errors("gRPC", config.grpc):
            grpc = _hold(config.grpc, _targets_of_grpc(config.grpc), stack)
        with reporting_listen_errors("HTTP", config.http):
            http = _hold(config.http, _resolve(config.http)[:1], stack)
        yield dataclasses.replace(config, grpc=grpc, http=http, share_ports=True)


def check_ports(config: Config) -> None:
    """Check that a server that shares no ports can listen, before it creates a file.

    Raises:
        StartError: an address is unknown or in use.
    """
    if config.grpc == config.http and socket_path(config.grpc):
        raise StartError(f"gRPC and HTTP cannot both listen on {config.http}")
    with contextlib.ExitStack() as stack:
        for protocol, address in (("gRPC", config.grpc), ("HTTP", config.http)):
            with reporting_listen_errors(protocol, address):
                path = socket_path(address)
                if path is not None:
                    SocketFile(path).check()
                else:
                    is_grpc = protocol == "gRPC"
                    targets = _targets_of_grpc(address) if is_grpc else _resolve(address)[:1]
                    _hold(address, targets, stack)


@contextlib.contextmanager
def reporting_listen_errors(protocol: str, address: str) -> Iterator[None]:
    """Turn errors of listening in the block into messages with protocol and address.

    Raises:
        StartError: the address is malformed, unknown, in use or not of this machine.
    """
    try:
        yield
    except (OSError, UnicodeError) as error:
        # Python repeats the address after the system's message.
        reason = reason_of(error).partition(" (")[0]
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            reason += _ADVICE.format(option=f"--{protocol.lower()}")
        raise StartError(f"cannot listen for {protocol} on {address}: {reason}") from error
    except ValueError as error:
        raise StartError(f"cannot listen for {protocol}: {error}") from error


def listen_once(address: str, *, share_port: bool) -> None:
    """Listen for a moment where gRPC failed to; one of the addresses of a host name is enough.

    Raises:
        OSError, UnicodeError: why a server cannot listen there.
    """
    errors = []
    for family, target in _targets_of_grpc(address):
        dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        try:
            socket.create_server(
                target, family=family, reuse_port=share_port, dualstack_ipv6=dual
            ).close()
        except OSError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


class SocketFile:
    """The file of a unix socket, until it is removed.

    It is bound as `draft`, another name beside it, and renamed when it listens. So no client meets
    a socket that does not listen yet; and gRPC, which removes any file at its address at the start
    and at the end, never removes that of another server.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        # Shortened only if the directory leaves no room, since a short name may be in use.
        room = MAX_SOCKET_PATH - len(os.fsencode(self.path.parent)) - 1
        self.draft = self.path.with_name(f".{secrets.token_hex(4)}"[: max(room, 2)])
        self._identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Check that a server can listen there.

        Raises:
            OSError: another process listens, the file is not a socket, or the system refuses.
        """
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise OSError(errno.EEXIST, "the file exists and is not a socket")
            if _is_in_use(self.path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.bind().close()
        self.draft.unlink()

    def bind(self) -> socket.socket:
        """Return a socket that is bound to the draft.

        Raises:
            OSError: the system refuses.
        """
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(str(self.draft))
        except OSError:
            bound.close()
            raise
        return bound

    def publish(self) -> None:
        """Rename the draft to the path, and replace the socket of a dead server there."""
        entry = self.draft.lstat()
        self.draft.replace(self.path)
        self._identity = entry.st_dev, entry.st_ino

    def remove(self) -> None:
        """Remove the file, unless another server has replaced it."""
        with contextlib.suppress(OSError):
            entry = self.path.lstat()
            if (entry.st_dev, entry.st_ino) == self._identity:
                self.path.unlink()


def _is_in_use(path: Path) -> bool:
    """Return whether a process listens on a socket.

    Raises:
        OSError: access is denied, or the socket is of another kind.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except BlockingIOError:  # its backlog is full
            return True
        except ConnectionRefusedError:
            return False
    return True


def _targets_of_grpc(address: str) -> list[_Target]:
    """Return all that gRPC listens on: every address of a host name, IPv6 and IPv4 if possible."""
    host, _, port = address.rpartition(":")
    if host == "0.0.0.0" and socket.has_dualstack_ipv6():  # noqa: S104 - only compared
        return _resolve(f"[::]:{port}")
    if host == "localhost":
        return [*_resolve(f"127.0.0.1:{port}"), *_resolve(f"[::1]:{port}")]
    return _resolve(address)


def _resolve(address: str) -> list[_Target]:
    host, port = split_address(address)
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A hosts file may list an address twice, and it can be held only once.
    return list(dict.fromkeys((family, target) for family, _, _, _, target in resolved))


def _hold(address: str, targets: Iterable[_Target], stack: contextlib.ExitStack) -> str:
    """Hold one port on all targets that this machine has; return the address with that port."""
    held: int | None = None
    missing: OSError | None = None
    for family, (host, port, *rest) in targets:
        try:
            holder = _bind_holder(family, (host, held or port, *rest))
        except OSError as error:
            # A host name may have an IPv6 address on a machine without IPv6.
            if error.errno not in _NOT_LOCAL:
                raise
            missing = error
        else:
            held = stack.enter_context(holder).getsockname()[1]
    if held is None and missing is not None:
        raise missing
    return f"{address.rpartition(':')[0]}:{held}"


def _bind_holder(family: socket.AddressFamily, target: tuple[Any, ...]) -> socket.socket:
    """Return a socket that holds a port that no other process uses."""
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    with contextlib.ExitStack() as stack:
        # Only a listening socket detects all others, and only one that shares its port admits the
        # holder.
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
        # This option was for lingering connections of an earlier server. From now on it would admit
        # a server that does not share the port.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        first.close()
        stack.pop_all()
    return holder
