"""The whole server: the one module that names the store and the transports and connects all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from stagecast import wire
from stagecast.auth import Authenticator, KeyCache, Sessions, TokenVerifier, load_verifier
from stagecast.background.change_poller import ChangePoller
from stagecast.background.readiness import Readiness
from stagecast.background.retention import Retention
from stagecast.background.row_encoder import RowEncoder
from stagecast.background.stall_detector import StallDetector
from stagecast.config import Config, is_loopback, socket_path
from stagecast.errors import StartError, StoreBusy, StoreTimeout, Unavailable
from stagecast.escaping import encoding_of, quote_for_shell
from stagecast.grace import Grace
from stagecast.notifier import Notifier
from stagecast.paths import shown
from stagecast.rest import HttpServer, make_rest_app
from stagecast.rpc import RpcServer
from stagecast.service.controls import Controls
from stagecast.service.heartbeats import Heartbeats
from stagecast.service.queries import Queries
from stagecast.service.reports import Reports
from stagecast.service.submissions import Submissions
from stagecast.store import Store, store_timeout
from stagecast.store.sqlite import SqliteStore, has_keys, open_file
from stagecast.threads import run_cancellable
from stagecast.tls import Tls, keep_renewed, load_tls
from stagecast.watches import BatchWatches, DatasetWatches, Deadlines, Rounds, Shared, Waits
from stagecast.web import HostCheck, LivePage, SessionCookies

_log = logging.getLogger(__name__)

LAST_WRITES_S = 6.0  # for the last writes of a server that stops: longer than the wait for a lock


def wall_clock() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1_000


@contextlib.asynccontextmanager
async def opened_store(db: Path, *, clock: Callable[[], int] = wall_clock) -> AsyncGenerator[Store]:
    """Open the store in a file during the block, for a command that needs no server.

    Raises:
        StartError: the file cannot be used.
    """
    store = SqliteStore(
        db,
        clock=clock,
        encoder=wire.StoreEncoder(),
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
        opened=await open_file(db),
    )
    try:
        yield store
    finally:
        await store.close()


class App:
    """A server that runs during an `async with` block.

    At the end it drains: health is NOT_SERVING, watches end with `DRAINING`, running calls get
    `Config.drain_s` to finish.

    Attributes:
        grpc_address, http_address: the addresses it listens on, with real ports.

    Raises:
        StartError: its file or its addresses cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], int] = wall_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._readiness = Readiness()
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def open_watches(self) -> int:
        """The number of open watches."""
        return self._rpc.open_watches

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start everything, from the store upwards; it is stopped in reverse order."""
        tls, verifier = load_tls(self._config), self._load_verifier()
        await self._check_exposure()
        notifier, rounds = Notifier(), Rounds()
        change_poller = ChangePoller(notifier, opened=rounds.opened)
        store = await self._open_store(change_poller)
        stack.push_async_callback(store.close)
        key_cache = KeyCache(store, on_change=lambda: notifier.notify_only(notifier.topics()))
        authenticator = await self._make_authenticator(key_cache, verifier)
        queries, controls = Queries(store), Controls(store)
        heartbeats = Heartbeats(store, clock=self._clock)
        stall_detector = self._make_stall_detector(store)
        stack.push_async_callback(_hand_over, heartbeats, stall_detector)
        rpc = self._rpc = self._make_rpc(
            tls, authenticator, store, notifier, rounds, queries, controls, heartbeats
        )
        sessions = Sessions(key_cache, clock=self._clock)
        http = self._make_http(tls, authenticator, store, rpc, sessions)
        await self._listen(stack, rpc, http)
        stack.callback(self._drain, rpc, notifier)
        self._readiness.on_change = rpc.set_serving
        self._readiness.gain()
        tasks = (
            self._readiness.run(store, every_s=self._config.probe_every_s),
            change_poller.run(store, on_version=key_cache.refresh),
            controls.sweep(),
            heartbeats.run(),
            *self._certificate_renewal(tls, http),
            stall_detector.run(),
            self._make_retention(store, controls).run(),
            RowEncoder(store).run(),
        )
        for task in tasks:
            stack.push_async_callback(_cancel, asyncio.create_task(task))

    async def _open_store(self, change_poller: ChangePoller) -> SqliteStore:
        return SqliteStore(
            self._config.db,
            clock=self._clock,
            encoder=wire.StoreEncoder(),
            on_commit=change_poller.pass_on,
            on_foreign_commit=change_poller.wake,
            on_fault=self._readiness.lose,
            opened=await open_file(self._config.db),
        )

    def _make_stall_detector(self, store: Store) -> StallDetector:
        return StallDetector(
            store,
            clock=self._clock,
            monotonic=self._monotonic,
            every_s=self._config.scan_every_s,
        )

    def _make_retention(self, store: Store, controls: Controls) -> Retention:
        return Retention(
            store, config=self._config, clock=self._clock, on_deleted=controls.sweep_soon
        )

    def _load_verifier(self) -> TokenVerifier | None:
        key = self._config.jwt_key
        return load_verifier(key, self._config.jwt_audience) if key else None

    async def _make_authenticator(
        self, key_cache: KeyCache, verifier: TokenVerifier | None
    ) -> Authenticator:
        """Return an authenticator that has read the keys.

        Raises:
            StartError: the store cannot be read within `Config.request_s`.
        """
        config = self._config
        try:
            async with store_timeout(config.request_s):
                await key_cache.load()
        except Unavailable as error:
            raise StartError(f"cannot use {shown(config.db)}: {error}") from error
        return Authenticator(
            key_cache,
            verifier=verifier,
            clock=self._clock,
            required=self._find_exposed() is not None and not config.insecure,
        )

    async def _check_exposure(self) -> None:
        """Refuse to serve other machines without keys, before a file is created or migrated.

        Raises:
            StartError: other machines could reach the server, and would need no key.
        """
        config, exposed = self._config, self._find_exposed()
        if exposed is None or config.insecure or config.jwt_key or await self._has_keys():
            return
        db = quote_for_shell(str(config.db), encoding_of(sys.stderr))
        raise StartError(
            f"{exposed} can be reached from other machines, and no key exists; create one with "
            f"'stagecast keys create --db {db}', or use --jwt-key or --insecure"
        )

    async def _has_keys(self) -> bool:
        db = self._config.db
        return await run_cancellable(partial(has_keys, db), doing=f"opening {shown(db)}")

    def _find_exposed(self) -> str | None:
        """Return the first address that other machines can reach, if any."""
        return next(filter(_is_exposed, (self._config.grpc, self._config.http)), None)

    def _make_rpc(
        self,
        tls: Tls | None,
        authenticator: Authenticator,
        store: SqliteStore,
        notifier: Notifier,
        rounds: Rounds,
        queries: Queries,
        controls: Controls,
        heartbeats: Heartbeats,
    ) -> RpcServer:
        config, clock = self._config, self._clock
        shared = Shared(notifier, Deadlines(), rounds, config)
        return RpcServer(
            config,
            tls=tls,
            authenticator=authenticator,
            submissions=Submissions(store),
            reports=Reports(store),
            heartbeats=heartbeats,
            controls=controls,
            queries=queries,
            batch_watches=BatchWatches(store, shared, encode=wire.WatchEncoder(), clock=clock),
            dataset_watches=DatasetWatches(
                store, shared, encode=wire.encode_datasets_message, clock=clock
            ),
            waits=Waits(store, notifier, config=config),
        )

    def _make_http(
        self,
        tls: Tls | None,
        authenticator: Authenticator,
        store: Store,
        rpc: RpcServer,
        sessions: Sessions,
    ) -> HttpServer:
        config, grace = self._config, Grace()
        page = LivePage(
            authenticator=authenticator,
            sessions=sessions,
            grpc_address=lambda: self.grpc_address,
            root_path=unquote(config.http_root_path),
        )
        app = make_rest_app(
            store,
            authenticator=authenticator,
            is_ready=lambda: self._readiness.ready,
            store_s=config.request_s,
            grace=grace,
            faces=[SessionCookies(app, sessions) for app in (rpc.over_http, page)],
            cors_origins=config.cors_origins,
            root_path=config.http_root_path,
        )
        if _is_for_browsers_here(config.http) and not config.insecure:
            app = HostCheck(
                app,
                needs_credentials=authenticator.needs_credentials,
                origins=config.cors_origins,
            )
        return HttpServer(app, config, tls=tls, grace=grace)

    async def _listen(
        self, stack: contextlib.AsyncExitStack, rpc: RpcServer, http: HttpServer
    ) -> None:
        """Start both servers; they are stopped together, also if only the first could start."""
        started: list[RpcServer | HttpServer] = []
        stack.push_async_callback(_stop_together, started, self._config.drain_s)
        await rpc.start()
        started.append(rpc)
        await http.start()
        started.append(http)
        self.grpc_address, self.http_address = rpc.address, http.address

    def _certificate_renewal(
        self, tls: Tls | None, http: HttpServer
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield the task that passes a renewed certificate to both servers, if TLS is on."""

        def renew(renewed: Tls) -> None:
            http.renew(renewed)
            self._rpc.renew(renewed)

        if tls:
            yield keep_renewed(tls, renew, every_s=self._config.tls_every_s)

    def _drain(self, rpc: RpcServer, notifier: Notifier) -> None:
        self._readiness.lose()
        rpc.drain()
        notifier.close()


async def _hand_over(heartbeats: Heartbeats, stall_detector: StallDetector) -> None:
    """Write the last heartbeats and release the stall detector's lease, if the store answers."""
    try:
        async with store_timeout(LAST_WRITES_S):
            for write in (heartbeats.flush, stall_detector.release):
                await _try_last_write(write)
    except StoreTimeout as error:
        _log_last_write(error)


async def _try_last_write(write: Callable[[], Awaitable[None]]) -> None:
    try:
        await write()
    except StoreBusy as error:  # the other one may still succeed
        _log_last_write(error)


def _log_last_write(error: Unavailable) -> None:
    _log.warning(
        "cannot write the last heartbeats or release the stall detector's lease: %s", error
    )


async def _stop_together(servers: Sequence[RpcServer | HttpServer], grace_s: float) -> None:
    await asyncio.gather(*(server.stop(grace_s) for server in servers))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


def _is_exposed(address: str) -> bool:
    try:
        return not is_loopback(address)
    except ValueError:  # malformed, which is reported when the server listens
        return False


def _is_for_browsers_here(address: str) -> bool:
    """Return whether only browsers of this machine reach an address.

    None reaches a unix socket; a server for other machines has names of its own.
    """
    try:
        return is_loopback(address) and socket_path(address) is None
    except ValueError:  # malformed, which is reported when the server listens
        return False
