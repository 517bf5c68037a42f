"""Answers of unary calls that clients do not read: how long grpc may hold one.

grpc sends such an answer by itself, and waits for the client's flow control without a limit. It
offers no way to give up a single call of a client that neither reads nor disconnects: its
connection is closed, like that of a vanished client. Clients of a unix socket have no address to
find their connection by, so all connections of that socket are closed, and the others reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from stagecast.rpc.http.call import HttpCall
from stagecast.rpc.running_calls import RunningCall
from stagecast.rpc.time_limit import TimeLimit
from stagecast.threads import run_in_daemon

_SHORT_TIMEOUT_S = 5.0  # the time limit of answers beyond `max_bytes`

_Peer = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]

_log = logging.getLogger(__name__)


class UnreadAnswers:
    """Closes the connections of clients that do not read their answers.

    Args:
        limit_s: how long an answer may be unread.
        max_bytes: of unread answers; those beyond have a short limit.

    Attributes:
        socket_name: of the unix socket, as it was bound; `None` without one.
    """

    def __init__(self, limit_s: float, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.socket_name: str | None = None
        self._bytes = 0
        self._unread: TimeLimit[RunningCall] = TimeLimit(limit_s, self._expire)
        self._overdue: set[str] = set()
        self._closing: asyncio.Task[None] | None = None

    def add(self, call: RunningCall, size: int) -> None:
        """Count the answer of a call until the client has read it, when the call's task ends."""
        many = self._bytes + size > self._max_bytes
        self._unread.begin(call, max_s=_SHORT_TIMEOUT_S if many else math.inf)
        self._bytes += size
        call.task.add_done_callback(partial(self._remove, call, size))

    def _remove(self, call: RunningCall, size: int, _: asyncio.Task[object]) -> None:
        self._unread.end(call)
        self._bytes -= size

    def _expire(self, call: RunningCall) -> None:
        if call.task.done():  # grpc may have freed the call, and would crash in `peer`
            return
        if isinstance(call.context, HttpCall):  # its server closes connections of slow readers
            return
        self._overdue.add(call.context.peer())
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_overdue())

    async def _close_overdue(self) -> None:
        """Close all overdue connections; finding one takes as long as finding them all."""
        try:
            while self._overdue:
                peers, self._overdue = self._overdue, set()
                addresses = {peer: address for peer in peers if (address := _parse(peer))}
                if addresses:
                    _log.info(
                        "%s: the client does not read its answers; closing the connection",
                        ", ".join(sorted(addresses)),
                    )
                    await run_in_daemon(partial(_close, partial(_is_of, set(addresses.values()))))
                if len(addresses) < len(peers):
                    _log.info(
                        "a client on the unix socket does not read its answers; closing all "
                        "connections of the socket, as grpc does not tell them apart"
                    )
                    await run_in_daemon(partial(_close, partial(_is_at, self.socket_name)))
        finally:
            self._closing = None


def _parse(peer: str) -> _Peer | None:
    """Return the address and port of a peer in grpc's notation; `None` for unix sockets."""
    if not peer.startswith("ip"):
        return None
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return _peer(host.strip("[]"), int(port))


def _peer(host: str, port: int) -> _Peer:
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address, port


def _close(is_overdue: Callable[[socket.socket], bool]) -> None:
    """Shut down connections of this process; grpc sees a disconnect."""
    for path in Path("/dev/fd").iterdir():
        descriptor = int(path.name)
        with contextlib.suppress(OSError):  # not a connection, or just closed
            # Files are not copied: with a copy that is closed, the process would lose all its locks
            # on the file, and so SQLite those that keep other processes from deleting its log.
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                _close_if(is_overdue, os.dup(descriptor))


def _close_if(is_overdue: Callable[[socket.socket], bool], copy: int) -> None:
    """Shut down the connection of a descriptor if it is overdue; close the descriptor.

    Raises:
        OSError: it is not a connection. It stays open if it has just become a file.
    """
    with socket.socket(fileno=copy) as connection:
        if is_overdue(connection):
            connection.shutdown(socket.SHUT_RDWR)


def _is_of(peers: set[_Peer], connection: socket.socket) -> bool:
    """Return whether a connection is to one of the peers.

    Raises:
        OSError: it is a socket without a peer.
    """
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host, port = connection.getpeername()[:2]
    return _peer(host, port) in peers


def _is_at(socket_name: str | None, connection: socket.socket) -> bool:
    """Return whether a connection was accepted by the unix socket of this name."""
    return (
        connection.family == socket.AF_UNIX
        and connection.getsockname() == socket_name
        # The listening socket has the same name.
        and not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )
