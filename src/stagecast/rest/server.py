"""uvicorn inside an event loop that is not its own, beside other servers.

uvicorn would take over the signals of the process and raise them again when it ends, which kills
whatever else is still draining; here they stay with who runs the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from stagecast.config import Config, socket_path, split_address
from stagecast.failures import reason_of
from stagecast.grace import Grace
from stagecast.listening import SocketFile, reporting_listen_errors
from stagecast.rest.protocol import BoundedProtocol
from stagecast.rest.slow_readers import SlowReaders
from stagecast.tls import Tls

_CHECK_EVERY_S = 0.5  # for who has stopped reading
_ACCEPT_AGAIN_S = 1.0  # after the system had no room for a connection

_LAST_ANSWERS_S = 0.5  # for who is told that the server stops to take that

_log = logging.getLogger(__name__)


class HttpServer:
    """Serves an application on the running event loop.

    Args:
        app: the ASGI application.
        config: where to listen, and the limits.
        tls: certificate and private key, if it speaks HTTPS.
        grace: of the application, for what waits for the store.

    Attributes:
        address: where it listens, with the real port once it has started.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        *,
        tls: Tls | None = None,
        grace: Grace | None = None,
    ) -> None:
        self.address = config.http
        self._grace = grace or Grace()
        self._share_port = config.share_ports
        settings = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # It would read the environment for these, which is not for it.
            workers=1,
            proxy_headers=False,
            timeout_keep_alive=config.http_idle_s,  # type: ignore[arg-type]  # only compared
        )
        settings.load()
        # By itself it would read the files again, by rules of its own.
        settings.ssl = tls.context if tls else None
        self._server = _Uvicorn(settings, config)
        self._serving: asyncio.Task[None] | None = None
        self._file: SocketFile | None = None

    async def start(self) -> None:
        """Listen; `address` has the real host and port afterwards.

        Raises:
            StartError: the address is malformed, unknown or taken.
        """
        with reporting_listen_errors("HTTP", self.address):
            listener = await self._listen()
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._serving  # raises what kept it from listening

    async def _listen(self) -> socket.socket:
        """Return a socket that listens on the address, which has the real host and port then."""
        path = socket_path(self.address)
        if path is None:
            listener = await _bind(self.address, share_port=self._share_port)
            host, port = listener.getsockname()[:2]
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return listener
        file = SocketFile(path)
        file.check()
        listener = file.bind()
        listener.listen()
        file.publish()
        self._file, self.address = file, f"unix:{path}"
        return listener

    def renew(self, tls: Tls) -> None:
        """Show another certificate to whoever connects from now on."""

        def show(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = tls.context

        # To load it into the context that is in use would leave that with half of it if that fails.
        if self._server.config.ssl:
            self._server.config.ssl.sni_callback = show

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way so many seconds, and hang up on the rest.

        Connections that only wait for a next request are closed at once.
        """
        if self._serving is None:
            return
        # What waits for the store is told, and what waits for its client ends when that is gone.
        # uvicorn's own grace is the last resort: it cancels, with a traceback in the log. It asks
        # for whole seconds, but hands them to `asyncio.wait_for`, which does not.
        loop = asyncio.get_running_loop()
        over = loop.call_later(grace_s, self._grace.end)
        hang_up = loop.call_later(grace_s + _LAST_ANSWERS_S, self._server.hang_up)
        uvicorn_s = grace_s + 2 * _LAST_ANSWERS_S
        self._server.config.timeout_graceful_shutdown = uvicorn_s  # type: ignore[assignment]
        self._server.end()
        await self._serving
        over.cancel()
        hang_up.cancel()
        if self._file:
            self._file.remove()


class _Uvicorn(uvicorn.Server):
    """Tells when it listens, leaves signals alone, and hangs up on who has stopped reading."""

    def __init__(self, settings: uvicorn.Config, limits: Config) -> None:
        super().__init__(settings)
        self.listening = asyncio.Event()
        self._ending = asyncio.Event()
        self._limits = limits
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._slow_readers = SlowReaders(limits.slow_reader_s)
        self._linger_s = limits.linger_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the signals are not ours."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell."""
        self.servers = []
        for listener in sockets or ():
            if self.config.ssl:
                listener.listen(self.config.backlog)
                listener.setblocking(False)
                self._accepting.append(asyncio.create_task(self._accept(listener)))
            else:
                self.servers.append(await self._serve_plainly(listener))
        self.started = True
        self.listening.set()

    async def _serve_plainly(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            self._make_protocol, sock=listener, backlog=self.config.backlog
        )

    async def _accept(self, listener: socket.socket) -> None:
        """Take connections, and begin TLS with each; more than there may be are closed.

        asyncio would take any number of them, and tell of none before its handshake is over. One
        too many is let through, to be told so.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionError:  # gone before it was taken
                continue
            except OSError as error:
                _log.error("cannot take a connection for HTTP: %s", reason_of(error))
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if len(self.server_state.connections) > self._limits.max_connections:
                connection.close()
                continue
            handshake = asyncio.create_task(self._begin_tls(connection))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _begin_tls(self, connection: socket.socket) -> None:
        """Do a handshake; the connection counts from now on, and not if nothing comes of it."""
        protocol = self._make_protocol()
        connections = self.server_state.connections
        connections.add(protocol)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self.config.ssl,
                ssl_handshake_timeout=self._limits.request_s,
            )
        except OSError as error:  # what peers do is not for the log
            _log.debug("no TLS with a client: %s", error)
        finally:
            if protocol.transport is None:
                connections.discard(protocol)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, hang up on handshakes under way, and finish requests under way.

        uvicorn's own takes a tenth of a second and more, also when nobody is connected.
        """
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        if not self.server_state.connections:
            await asyncio.sleep(self._linger_s)  # for who is just connecting
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)

    def _make_protocol(self) -> BoundedProtocol:
        return BoundedProtocol(
            limits=self._limits, config=self.config, server_state=self.server_state, app_state={}
        )

    async def main_loop(self) -> None:
        """Look for who has stopped reading, until told to end.

        uvicorn's own wakes up ten times a second, and hears of the end at the next.
        """
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY_S):
                    await self._ending.wait()

    async def on_tick(self, counter: int) -> bool:
        """Hang up on who has stopped reading; tell whether to end."""
        now_s = asyncio.get_running_loop().time()
        for transport in self._slow_readers.find(self._transports(), now_s):
            transport.abort()
        return await super().on_tick(counter)

    def end(self) -> None:
        """Let the main loop end at once."""
        self.should_exit = True
        self._ending.set()

    def hang_up(self) -> None:
        """Drop all connections, with what is still unsent on them."""
        for transport in self._transports():
            transport.abort()

    def _transports(self) -> list[asyncio.Transport]:
        """Return those of connections; of one that begins with TLS there is none yet."""
        transports = (connection.transport for connection in self.server_state.connections)
        return [transport for transport in transports if transport]


async def _bind(address: str, *, share_port: bool) -> socket.socket:
    """Return a socket that listens on the address."""
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, target = addresses[0]
    listener = socket.create_server(
        target,
        family=family,
        reuse_port=share_port,
        # `[::]` means every address, as it does for gRPC.
        dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
    )
    # Connections inherit it. asyncio sets it only on sockets that it made itself; without it the
    # body of an answer, written after the head, may wait for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
