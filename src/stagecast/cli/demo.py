"""`stagecast demo`: a worker that ingests real files, and a watch that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
import textwrap
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from stagecast.app import App
from stagecast.cli import hints, rest_poll
from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.params import FILE, Seconds, check_http_address, check_server_address, examples
from stagecast.cli.render.formatting import shown
from stagecast.cli.target import Credentials, credentials_options
from stagecast.cli.watch import exit_code, follow_batch
from stagecast.client import Stubs
from stagecast.config import Config, socket_path
from stagecast.demo.index import Index
from stagecast.demo.sources import find_sources
from stagecast.demo.stages import IngestionError
from stagecast.demo.worker import Source, submit, work
from stagecast.errors import StartError
from stagecast.escaping import is_printable
from stagecast.failures import reason_of
from stagecast.runtime.descriptors import take_descriptors
from stagecast.runtime.event_loop import run
from stagecast.runtime.exits import CommandFailed
from stagecast.runtime.logs import log_to_stderr
from stagecast.runtime.stdio import echo
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

_SAMPLE_SEARCH = "resume token"  # the default with the samples
_DELAY_S = 0.2  # on a terminal
_MAX_DELAYED = 100  # documents; the delay of more would take too long
_DOCUMENTS_ON_SCREEN = 2  # of a REST response on a terminal; files and pipes get all
_DESCRIPTORS = 100  # for a server, and for workers with two temporary files each
_DEFAULTS = Config()
_OF_SERVER = {"http", *(field.name for field in fields(Credentials))}  # options


@dataclass(frozen=True, kw_only=True, slots=True)
class _Server:
    """The server to use: addresses, credentials, and its file if the demo has started it."""

    grpc: str
    http: str
    credentials: Credentials
    db: Path | None


@click.command(epilog=examples("demo", "demo --delay 0.5 docs/ README.md"))
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=FILE)
@click.option(
    "--grpc",
    metavar="ADDRESS",
    callback=check_server_address,
    help="Use the server at HOST:PORT or unix:PATH; STAGECAST_GRPC is ignored.  [default: a new "
    "server inside this command, on a temporary file]",
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
@click.option(
    "--search",
    metavar="WORDS",
    help="Words to search the index for.  [default: a word picked from the texts]",
)
def demo(
    paths: tuple[Path, ...],
    grpc: str | None,
    http: str | None,
    credentials: Credentials,
    delay: float | None,
    search: str | None,
) -> None:
    """Ingest some texts and watch their progress.

    PATH is a text file, or a directory with *.txt and *.md files; the default are samples that come
    with stagecast. A small worker parses, cleans and splits the texts, adds them to a full-text
    index, and reports each step to the server; a watch shows the progress. Then the demo gets both
    REST paths and searches the index.

    The files stay in a temporary directory; the last line of the output is the command that removes
    it. A demo that fails removes it itself. The files take twice the size of the texts, and up to
    four times while the demo runs.

    Exit code: 0 if all documents succeeded, 1 if not, 2 if the demo failed, 74 if the output cannot
    be written.
    """
    if grpc is None:
        _refuse_server_options()
    if http is None and grpc is not None and socket_path(grpc) is not None:
        raise click.UsageError(f"--http is required with {grpc}: a URL cannot name a unix socket")
    if search is not None and not (search.strip() and is_printable(search)):
        raise click.UsageError("--search must contain printable words")
    try:
        sources = find_sources(paths)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if search is None and not paths:
        search = _SAMPLE_SEARCH
    if delay is None:
        delay = default_delay_s(len(sources), terminal=sys.stdout.isatty())
    log_to_stderr(level=logging.WARNING)
    try:
        take_descriptors("the demo", _DESCRIPTORS)
        with reported_in_one_line(grpc or "the server of the demo", tls=credentials.speaks_tls):
            target = partial(_server, grpc, http, credentials)
            batch = run(_demo(sources, target, delay_s=delay, search=search))
    except (StartError, IngestionError) as error:
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
    """Create a directory, and remove it if the block raises; else the last lines name it.

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
    running: Callable[[Path], contextlib.AbstractAsyncContextManager[_Server]],
    *,
    delay_s: float,
    search: str | None,
) -> r.Batch:
    with _temporary_directory() as directory:
        async with (
            running(directory) as target,
            target.credentials.connect(target.grpc) as client,
            Index(directory / "index.db") as index,
        ):
            submitted = await submit(client, str(uuid.uuid4()), sources)
            where = f"grpc={target.grpc} http={target.http}"
            echo(f"documents: {len(sources)}  server: {where}\n")
            batch = await _ingest(client, submitted, sources, index, delay_s=delay_s)
            await _show_rest(target, batch)
            await _show_search(index, search)
        echo(
            hints.suggest_commands(
                batch, grpc=target.grpc, credentials=target.credentials, db=target.db
            )
        )
        echo(hints.clean_up(directory))
    return batch


@contextlib.asynccontextmanager
async def _server(
    grpc: str | None, http: str | None, credentials: Credentials, directory: Path
) -> AsyncIterator[_Server]:
    """Give the server at `grpc`, or one that runs for as long as the block."""
    if grpc is not None:
        yield _Server(grpc=grpc, http=http or _DEFAULTS.http, credentials=credentials, db=None)
        return
    db = directory / "stagecast.db"
    async with App(Config(db=db, grpc="127.0.0.1:0", http="127.0.0.1:0")) as app:
        yield _Server(
            grpc=app.grpc_address, http=app.http_address, credentials=Credentials(), db=db
        )


async def _ingest(
    client: Stubs, batch: r.Batch, sources: list[Source], index: Index, *, delay_s: float
) -> r.Batch:
    """Run the worker and a watch side by side; return the batch at its end."""
    request = pb.WatchBatchRequest(dataset_id=batch.dataset_id, batch_id=batch.batch_id)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(follow_batch(client, request))
        group.create_task(work(client, batch, sources, index, delay_s=delay_s))
    return watching.result()


async def _show_rest(target: _Server, batch: r.Batch) -> None:
    """Get both REST paths, as polling clients do, and print the responses."""
    echo("\nWhat polling clients get:\n")
    limit = _DOCUMENTS_ON_SCREEN if sys.stdout.isatty() else None
    for path in rest_poll.paths_of(batch):
        url = f"{target.credentials.scheme}://{target.http}{path}"
        try:
            answer = await rest_poll.fetch_on_thread(url, target.credentials)
        except OSError as error:
            raise CommandFailed(f"cannot get {url}: {reason_of(error)}") from error
        echo(f"GET {url}\n{rest_poll.layout(answer, limit=limit)}\n")


async def _show_search(index: Index, words: str | None) -> None:
    """Search the index for words, or for a typical one of its own, and print the best chunk."""
    words = words or await index.find_keyword()
    path = shown(str(index.path))
    if words is None:
        echo(f"Nothing to search for: {path} contains no text.\n")
        return
    hit = await index.search(words)
    if hit is None:
        echo(f"No chunk in {path} contains all of these words: {shown(words)}\n")
        return
    text = textwrap.indent(textwrap.fill(shown(" ".join(hit.text.split())), 78), "  ")
    echo(
        f"Best chunk in {path} for: {shown(words)}\n"
        f"{shown(hit.document_id)}, chunk {hit.number}:\n{text}\n"
    )
