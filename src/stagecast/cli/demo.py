"""`stagecast demo`: a worker that ingests real files, and a watch that shows it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from stagecast.cli import hints, rest_poll
from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.params import FILE, Seconds, check_http_address, check_server_address, examples
from stagecast.cli.render.formatting import counts_line, shown
from stagecast.cli.render.output import is_terminal
from stagecast.cli.target import Credentials, credentials_options
from stagecast.cli.watch import exit_code, follow_batch
from stagecast.client.api import Client, Reporter
from stagecast.config import Config, socket_path
from stagecast.demo.incidents import Incidents
from stagecast.demo.index import Hit, Index
from stagecast.demo.ingestion import Ingestion
from stagecast.demo.observer import Observer
from stagecast.demo.server import DemoServer
from stagecast.demo.sources import find_sources
from stagecast.demo.stages import IngestionError
from stagecast.demo.worker import Source, Worker
from stagecast.errors import StagecastError
from stagecast.escaping import is_printable
from stagecast.failures import reason_of
from stagecast.runtime.descriptors import take_descriptors
from stagecast.runtime.event_loop import run
from stagecast.runtime.exits import CommandFailed
from stagecast.runtime.logs import log_to_stderr
from stagecast.runtime.stdio import echo
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

DATASET = "demo"

_DELAY_S = 0.2  # on a terminal
_MAX_DELAYED = 100  # documents; the delay of more would take too long
_STALL_AFTER_S = 2  # of the samples, one of which stalls; heartbeats come three times as often
_DOCUMENTS_ON_SCREEN = 2  # of a REST response on a terminal; files and pipes get all
_DESCRIPTORS = 100  # for workers with two temporary files each
_DEFAULTS = Config()
_OF_SERVER = {"http", *(field.name for field in fields(Credentials))}  # options


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """The options of the command, without its paths and its server."""

    delay_s: float
    search: str | None
    rest: bool
    grpcurl: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """The server to use: addresses, credentials, and the process if the demo has started it."""

    grpc: str
    http: str
    credentials: Credentials
    server: DemoServer | None


@click.command(epilog=examples("demo", "demo --delay 0.5 docs/ README.md"))
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=FILE)
@click.option(
    "--grpc",
    metavar="ADDRESS",
    callback=check_server_address,
    help="Use the server at HOST:PORT or unix:PATH; STAGECAST_GRPC is ignored.  [default: a new "
    "server, on a temporary file]",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    callback=check_http_address,
    help=f"REST address of the server of --grpc.  [default: {_DEFAULTS.http}]",
)
@credentials_options
@click.option(
    "--delay",
    type=Seconds(0, 60),
    metavar="SECONDS",
    help="Delay between the steps of a document.  "
    f"[default: {_DELAY_S:g} on a terminal for up to {_MAX_DELAYED} documents, else 0]",
)
@click.option("--rest", is_flag=True, help="Show what clients that poll the REST paths get.")
@click.option("--grpcurl", is_flag=True, help="Show how to call the server with grpcurl.")
@click.option("--search", metavar="WORDS", help="Search the index, and show the best chunk.")
def demo(
    paths: tuple[Path, ...],
    grpc: str | None,
    http: str | None,
    credentials: Credentials,
    delay: float | None,
    rest: bool,
    grpcurl: bool,
    search: str | None,
) -> None:
    """Ingest some texts and watch their progress.

    PATH is a text file, or a directory with *.txt and *.md files, of which hidden ones are left
    out; the default are samples that come with stagecast. A small worker parses, cleans and splits
    the texts, adds them to a full-text index, and reports each step to the server; a watch shows
    the progress.

    Meanwhile the demo kills its own server and starts it again, to show that neither the worker nor
    the watch loses anything. Of the samples, one document stalls and recovers, another fails and is
    tried again.

    The files stay in a temporary directory; the last line of the output is the command that removes
    it. A demo that fails removes it itself. The files take twice the size of the texts, and up to
    four times while the demo runs.

    Exit code: 0 if all documents succeeded, 1 if not, 2 if the demo failed, 74 if the output cannot
    be written.
    """
    if grpc is None:
        _refuse_server_options()
    if rest and http is None and grpc is not None and socket_path(grpc) is not None:
        raise click.UsageError(f"--http is required with {grpc}: a URL cannot name a unix socket")
    if search is not None and not (search.strip() and is_printable(search)):
        raise click.UsageError("--search must contain printable words")
    try:
        sources = find_sources(paths)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if delay is None:
        delay = default_delay_s(len(sources), terminal=sys.stdout.isatty())
    options = _Options(delay_s=delay, search=search, rest=rest, grpcurl=grpcurl)
    log_to_stderr(level=logging.WARNING)
    try:
        take_descriptors("the demo", _DESCRIPTORS)
        with reported_in_one_line(grpc or "the server of the demo", tls=credentials.speaks_tls):
            target = partial(_target, grpc, http, credentials)
            incidents = None if paths or grpc else Incidents()
            batch = run(_demo(sources, target, incidents, options))
    except (StagecastError, IngestionError) as error:
        raise CommandFailed(str(error)) from error
    raise click.exceptions.Exit(exit_code(batch))


def _refuse_server_options() -> None:
    """Refuse options that are for the server of `--grpc`, unless they are from the environment.

    Raises:
        click.UsageError: there is one.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _OF_SERVER and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} requires --grpc: without it, the demo starts its own server"
            )


def default_delay_s(documents: int, *, terminal: bool) -> float:
    """Return the default delay between the steps of a document."""
    return _DELAY_S if terminal and documents <= _MAX_DELAYED else 0.0


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    """Create a directory, and remove it if the block raises; else the last line names it.

    Raises:
        CommandFailed: it cannot be created.
    """
    try:
        directory = Path(tempfile.mkdtemp(prefix="stagecast-demo-"))
    except OSError as error:
        raise CommandFailed(f"cannot create a temporary directory: {reason_of(error)}") from error
    try:
        yield directory
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


async def _demo(
    sources: list[Source],
    running: Callable[[Path], contextlib.AbstractAsyncContextManager[_Target]],
    incidents: Incidents | None,
    options: _Options,
) -> r.Batch:
    observer = Observer(incidents)
    with _temporary_directory() as directory, Index(directory / "index.db") as index:
        async with running(directory) as target:
            worker = Worker(sources, index, delay_s=options.delay_s, incidents=incidents)
            batch = await _ingest(target, sources, worker, observer)
            if options.rest:
                await _show_rest(target, batch)
        if options.search is not None:
            echo(_describe(index.search(options.search), index.path, options.search))
        if options.grpcurl:
            echo("\n".join(["", *hints.grpcurl(batch, target.grpc, target.credentials)]))
        echo("\n".join(["", summary_of(batch, observer), *_next_steps(batch, target, directory)]))
    return batch


@contextlib.asynccontextmanager
async def _target(
    grpc: str | None, http: str | None, credentials: Credentials, directory: Path
) -> AsyncIterator[_Target]:
    """Give the server at `grpc`, or one that runs for as long as the block."""
    if grpc is not None:
        yield _Target(grpc=grpc, http=http or _DEFAULTS.http, credentials=credentials, server=None)
        return
    async with DemoServer(directory / "stagecast.db") as server:
        yield _Target(grpc=server.grpc, http=server.http, credentials=Credentials(), server=server)


async def _ingest(
    target: _Target, sources: list[Source], worker: Worker, observer: Observer
) -> r.Batch:
    """Ingest the sources and show it; return the batch at its end."""
    staged = observer.incidents is not None
    documents = [source.document for source in sources]
    async with target.credentials.connect(target.grpc) as client:
        # Says what is wrong with the address or the key.
        await client.status.ListDatasets(pb.ListDatasetsRequest(page_size=1))
        known = target.credentials.arguments()
        with Reporter(target.grpc, **known) as reporter, Client(target.grpc, **known) as controls:
            batch = reporter.batch(
                DATASET,
                documents,
                strict=True,
                stall_after=_STALL_AFTER_S if staged else None,
                stall_on_no_progress=1 if staged else None,
            )
            known_as = r.Batch(dataset_id=batch.dataset_id, batch_id=batch.id)
            page = hints.page(known_as, target.http, target.credentials)
            echo(f"documents: {len(sources)}  server: grpc={target.grpc} http={target.http}")
            echo(f"to look at it in a browser: {page}\n")
            ingestion = Ingestion(batch, worker, observer, controls, server=target.server, say=_say)
            return await ingestion.run(
                lambda request: follow_batch(
                    client,
                    request,
                    on_message=observer.observe,
                    on_lost=partial(_lost, observer, target),
                    note=f"in a browser: {_url(target)}",
                )
            )


def _say(line: str) -> None:
    """Say what happens meanwhile; on a terminal the live table shows it."""
    if not is_terminal(Console()):
        echo(line)


def _lost(observer: Observer, target: _Target) -> None:
    observer.lost()
    if target.server is None:  # of its own server the demo says that it kills it
        _say("the connection to the server is lost; reconnecting")


def _url(target: _Target) -> str:
    return f"{target.credentials.scheme}://{target.http}"


async def _show_rest(target: _Target, batch: r.Batch) -> None:
    """Get both REST paths, as polling clients do, and print the responses."""
    echo("\nWhat polling clients get:\n")
    limit = _DOCUMENTS_ON_SCREEN if sys.stdout.isatty() else None
    for path in rest_poll.paths_of(batch):
        url = _url(target) + path
        try:
            answer = await rest_poll.fetch_on_thread(url, target.credentials)
        except OSError as error:
            raise CommandFailed(f"cannot get {url}: {reason_of(error)}") from error
        echo(f"GET {url}\n{rest_poll.layout(answer, limit=limit)}\n")


def _describe(hit: Hit | None, path: Path, words: str) -> str:
    """Return what a search has found, as lines."""
    if hit is None:
        return f"\nNo chunk in {shown(str(path))} contains all of these words: {shown(words)}"
    text = textwrap.indent(textwrap.fill(shown(" ".join(hit.text.split())), 78), "  ")
    return (
        f"\nBest chunk in {shown(str(path))} for: {shown(words)}\n"
        f"{shown(hit.document_id)}, chunk {hit.number}:\n{text}"
    )


def summary_of(batch: r.Batch, observer: Observer) -> str:
    """Return what happened."""
    happened = counts_line(batch.counts)
    if observer.incidents:
        happened += "; one stalled and one failed at first, as staged"
    if observer.went_on_at is not None and observer.missed_nothing:
        happened += (
            ". The server was killed meanwhile; "
            f"the watch went on at revision {observer.went_on_at}, nothing missed"
        )
    return f"{happened}."


def _next_steps(batch: r.Batch, target: _Target, directory: Path) -> list[str]:
    """Return commands with which to go on, each as a line."""
    again = {"serve it again": hints.serve(target.server.db)} if target.server else {}
    grpc, http = target.grpc, target.http
    if target.server:
        grpc, http = _DEFAULTS.grpc, _DEFAULTS.http
    commands = {
        **again,
        "open": hints.page(batch, http, target.credentials),
        "watch": hints.watch(DATASET, batch, grpc, target.credentials),
        "poll": hints.poll(batch, http, target.credentials),
        "clean up": hints.remove(directory),
    }
    return [f"  {what + ':':<16}{command}" for what, command in commands.items()]
