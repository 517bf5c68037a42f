"""Where a server listens: ports, checked and held, and the files of unix sockets.

What keeps a server from listening is looked at here, by listening there: grpc does not say it.

Ports that several processes share are held by one that does not listen.
With `SO_REUSEPORT` the kernel spreads connections over all sockets that listen, also over those of
another server that was given the same port by mistake. So a port is taken first as a server takes
it that shares it with nobody. The socket that holds it from then on is bound and never listens: it
gets no connections, and keeps others away even while none of our processes is alive.
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
        with reporting_listen_errors("gRPC", config.grpc):
            grpc = _hold(config.grpc, _targets_of_grpc(config.grpc), stack)
        with reporting_listen_errors("HTTP", config.http):
            http = _hold(config.http, _resolve(config.http)[:1], stack)
        yield dataclasses.replace(config, grpc=grpc, http=http, share_ports=True)


def check_ports(config: Config) -> None:
    """Make sure that a server which shares nothing can have its addresses, before it makes a file.

    Raises:
        StartError: an address is unknown or taken.
    """
    if config.grpc == config.http and socket_path(config.grpc):
        raise StartError(f"gRPC and HTTP cannot both listen on {config.http}")
    with contextlib.ExitStack() as stack:
        for face, address in (("gRPC", config.grpc), ("HTTP", config.http)):
            with reporting_listen_errors(face, address):
                path = socket_path(address)
                if path is not None:
                    SocketFile(path).check()
                else:
                    targets = _targets_of_grpc(address) if face == "gRPC" else _resolve(address)[:1]
                    _hold(address, targets, stack)


@contextlib.contextmanager
def reporting_listen_errors(face: str, address: str) -> Iterator[None]:
    """Turn what keeps the block from listening into what is told of it.

    Raises:
        StartError: the address is malformed, unknown, taken or not of this machine.
    """
    try:
        yield
    except (OSError, UnicodeError) as error:
        # Python adds the address once more to what the system says.
        reason = reason_of(error).partition(" (")[0]
        raise StartError(f"cannot listen for {face} on {address}: {reason}") from error
    except ValueError as error:
        raise StartError(f"cannot listen for {face}: {error}") from error


def listen_once(address: str, *, share_port: bool) -> None:
    """Listen where gRPC has failed to, for a moment; one of the addresses of a name is enough.

    Raises:
        OSError, UnicodeError: what keeps a server from it.
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
    """The file of a unix socket, from when somebody listens on it until it is removed.

    It is bound as `draft`, another name beside it, and renamed then. So nobody meets a socket that
    does not listen yet; and grpc, which removes whatever is at the name that it was told, when it
    begins and when it ends, never removes the file of another server.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        # Cut only where the directory leaves no room for more: a short one may be taken.
        room = MAX_SOCKET_PATH - len(os.fsencode(self.path.parent)) - 1
        self.draft = self.path.with_name(f".{secrets.token_hex(4)}"[: max(room, 2)])
        self._identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Make sure that a server can listen there.

        Raises:
            OSError: somebody listens, it is another kind of file, or the system does not let one
                listen.
        """
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise OSError(errno.EEXIST, "a file is there that is no socket")
            if _is_answered(self.path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.bind().close()
        self.draft.unlink()

    def bind(self) -> socket.socket:
        """Return a socket that is bound to the draft.

        Raises:
            OSError: the system does not allow it.
        """
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(str(self.draft))
        except OSError:
            bound.close()
            raise
        return bound

    def publish(self) -> None:
        """Give the draft its name, in the place of what a server left that is gone."""
        status = self.draft.lstat()
        self.draft.replace(self.path)
        self._identity = status.st_dev, status.st_ino

    def remove(self) -> None:
        """Remove the file, unless it is not ours any more."""
        with contextlib.suppress(OSError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                self.path.unlink()


def _is_answered(path: Path) -> bool:
    """Tell whether somebody listens on a socket.

    Raises:
        OSError: nobody may find out, or it is a socket of another kind.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except BlockingIOError:  # more callers wait than the other takes
            return True
        except ConnectionRefusedError:
            return False
    return True


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
    status = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A hosts file may name an address twice, and it can be held only once.
    return list(dict.fromkeys((family, target) for family, _, _, _, target in status))


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
