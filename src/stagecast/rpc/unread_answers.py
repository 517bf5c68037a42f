"""Answers of unary calls that clients do not read: for how long grpc may hold one.

grpc sends such an answer by itself, and waits for the client's flow control without a limit. It
offers no way to give up a single call of a client that neither reads nor leaves: its connection is
closed, as that of a client that has vanished. Those of unix sockets have no address to be found by,
and what such a client has left unread waits in grpc, where the kernel does not know of it. So there
is no limit for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from stagecast.rpc.stream_writer import Context
from stagecast.threads import run_in_daemon

_HURRIED_S = 5.0  # for each answer beyond the bytes that may take their time

_Peer = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]

_log = logging.getLogger(__name__)


class UnreadAnswers:
    """Closes the connections of clients that do not take their answers.

    Args:
        limit_s: how long an answer may be unread.
        max_bytes: how many bytes of answers may be; beyond them a further one has little time.
    """

    def __init__(self, limit_s: float, *, max_bytes: int) -> None:
        self._limit_s = limit_s
        self._max_bytes = max_bytes
        self._bytes = 0
        self._overdue: set[str] = set()
        self._closing: asyncio.Task[None] | None = None

    def add(self, context: Context, size: int) -> None:
        """Count an answer until the client has taken it, which is when the running task ends."""
        task = cast("asyncio.Task[None]", asyncio.current_task())  # grpc has one for each call
        hurried = self._bytes + size > self._max_bytes
        limit_s = min(self._limit_s, _HURRIED_S) if hurried else self._limit_s
        timer = asyncio.get_running_loop().call_later(limit_s, self._expire, context)
        self._bytes += size
        task.add_done_callback(partial(self._remove, timer, size))

    def _remove(self, timer: asyncio.TimerHandle, size: int, _: asyncio.Task[None]) -> None:
        timer.cancel()
        self._bytes -= size

    def _expire(self, context: Context) -> None:
        self._overdue.add(context.peer())
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_overdue())

    async def _close_overdue(self) -> None:
        """Close all connections that are due: to find one takes as long as to find them all."""
        try:
            while self._overdue:
                peers, self._overdue = self._overdue, set()
                result = {peer: address for peer in peers if (address := _parse(peer))}
                if result:
                    _log.info("%s: answers are not read; closing", ", ".join(sorted(result)))
                    await run_in_daemon(partial(_close, set(result.values())))
                if len(result) < len(peers):
                    _log.info(
                        "answers to a client on the unix socket are not read; it is left alone, as "
                        "grpc does not tell such clients apart"
                    )
        finally:
            self._closing = None


def _parse(peer: str) -> _Peer | None:
    """Return the address and port of a peer as grpc names it; clients of unix sockets have none."""
    if not peer.startswith("ip"):
        return None
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return _peer(host.strip("[]"), int(port))


def _peer(host: str, port: int) -> _Peer:
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address, port


def _close(peers: set[_Peer]) -> None:
    """Shut down this process's connections to these peers; grpc sees that as their hanging up."""
    for descriptor in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # it is no connection, or has just been closed
            _close_if_of(peers, os.dup(int(descriptor.name)))


def _close_if_of(peers: set[_Peer], copy: int) -> None:
    """Shut a connection down if it is to one of the peers; its copy is closed in any case.

    Raises:
        OSError: it is no connection.
    """
    try:
        connection = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with connection:
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            host, port = connection.getpeername()[:2]
            if _peer(host, port) in peers:
                connection.shutdown(socket.SHUT_RDWR)
