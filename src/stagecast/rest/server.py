"""uvicorn in an event loop shared with other servers.

uvicorn would handle the signals of the process and raise them again when it stops, which kills
whatever is still draining; here it leaves them alone.
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
from stagecast.rest.response_cycle import DateHeader
from stagecast.rest.slow_readers import SlowReaders
from stagecast.tls import Tls

_CHECK_EVERY_S = 0.5  # slow readers, while data waits for any client
_ACCEPT_AGAIN_S = 1.0  # after an error, such as too many open files
_LAST_ANSWERS_S = 0.5  # for clients to receive the error that the server is stopping

_log = logging.getLogger(__name__)


class HttpServer:
    """Serves an application on the running event loop.

    Args:
        app: the ASGI application.
        config: the address, and the limits.
        tls: certificate and private key, for HTTPS.
        grace: ends waits of the application for the store.

    Attributes:
        address: where it listens; with the real port once started.
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
            # Without these, uvicorn would read environment variables.
            workers=1,
            proxy_headers=False,
            timeout_keep_alive=config.http_idle_s,  # type: ignore[arg-type]  # only compared
        )
        settings.load()
        # uvicorn would read the files again, by rules of its own.
        settings.ssl = tls.context if tls else None
        self._server = _Uvicorn(settings, config)
        self._serving: asyncio.Task[None] | None = None
        self._file: SocketFile | None = None

    async def start(self) -> None:
        """Listen, and set `address` to the real host and port.

        Raises:
            StartError: the address is malformed, unknown or already in use.
        """
        with reporting_listen_errors("HTTP", self.address):
            listener = await self._listen()
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._serving  # raises the error

    async def _listen(self) -> socket.socket:
        """Return a socket that listens on the address, and set the real host and port."""
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
        """Use another certificate for new connections."""

        def show(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = tls.context

        # Loading it into the context in use would leave that half changed on failure.
        if self._server.config.ssl:
            self._server.config.ssl.sni_callback = show

    async def stop(self, grace_s: float) -> None:
        """Stop accepting requests, wait `grace_s` for those under way, then close the rest.

        Idle connections are closed at once.
        """
        if self._serving is None:
            return
        # Requests that wait for the store get an error; those that wait for their client end
        # when its connection is closed. uvicorn's own timeout is the last resort: it cancels, with
        # a traceback in the log. It is typed as an integer, but any number works.
        loop = asyncio.get_running_loop()
        over = loop.call_later(grace_s, self._grace.end)
        close_connections = loop.call_later(
            grace_s + _LAST_ANSWERS_S, self._server.close_connections
        )
        uvicorn_s = grace_s + 2 * _LAST_ANSWERS_S
        self._server.config.timeout_graceful_shutdown = uvicorn_s  # type: ignore[assignment]
        self._server.end()
        await self._serving
        over.cancel()
        close_connections.cancel()
        if self._file:
            self._file.remove()


class _Uvicorn(uvicorn.Server):
    """Sets an event when it listens, ignores signals, and closes connections of slow readers.

    It does nothing while nothing happens; uvicorn's own wakes up ten times a second.
    """

    def __init__(self, settings: uvicorn.Config, limits: Config) -> None:
        super().__init__(settings)
        self.listening = asyncio.Event()
        self._woken = asyncio.Event()
        self._unsent: set[asyncio.Transport] = set()  # connections with unsent data
        self._date = DateHeader()
        self._limits = limits
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._slow_readers = SlowReaders(limits.slow_reader_s, max_bytes=limits.max_waiting_bytes)
        self._linger_s = limits.linger_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and set the event."""
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
        """Accept connections and start their TLS handshakes; beyond the limit, close them.

        asyncio would accept any number, and report none before its handshake is over. The first
        connection beyond the limit is accepted, to get an error response.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionError:  # closed before it was accepted
                continue
            except OSError as error:
                _log.error("cannot accept an HTTP connection: %s", reason_of(error))
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if len(self.server_state.connections) > self._limits.max_connections:
                connection.close()
                continue
            handshake = asyncio.create_task(self._begin_tls(connection))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)
            # Let it be counted: asyncio, unlike uvloop, may accept the next one at once.
            await asyncio.sleep(0)

    async def _begin_tls(self, connection: socket.socket) -> None:
        """Do a handshake; the connection counts against the limit from the start until it fails."""
        protocol = self._make_protocol()
        protocol.count()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self.config.ssl,
                ssl_handshake_timeout=self._limits.request_s,
            )
        except OSError as error:  # caused by the client, so not logged by default
            _log.debug("TLS handshake failed: %s", error)
        finally:
            if protocol.transport is None:
                self.server_state.connections.discard(protocol)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, abort handshakes, and finish requests under way.

        uvicorn's own takes at least a tenth of a second, even without connections.
        """
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        if not self.server_state.connections:
            await asyncio.sleep(self._linger_s)  # for clients that are just connecting
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)

    def _make_protocol(self) -> BoundedProtocol:
        return BoundedProtocol(
            limits=self._limits,
            date=self._date,
            on_unsent=self._watch_reader,
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )

    async def main_loop(self) -> None:
        """Close connections of slow readers, until `end` is called."""
        while not self.should_exit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY_S if self._unsent else None):
                    await self._woken.wait()
            self._woken.clear()
            self._close_slow_readers()

    def _watch_reader(self, transport: asyncio.Transport) -> None:
        if not self._unsent:
            self._woken.set()
        self._unsent.add(transport)

    def _close_slow_readers(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for transport in self._slow_readers.find(self._unsent, now_s):
            transport.abort()
        self._unsent = {one for one in self._unsent if one.get_write_buffer_size()}

    def end(self) -> None:
        """Make the main loop end at once."""
        self.should_exit = True
        self._woken.set()

    def close_connections(self) -> None:
        """Close all connections; unsent data is lost."""
        for transport in self._transports():
            transport.abort()

    def _transports(self) -> list[asyncio.Transport]:
        """Return the transports of connections whose TLS handshake is over."""
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
    # Connections inherit it. asyncio sets it only on sockets that it creates; without it, the body
    # of a response, written after the head, may wait for a delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
