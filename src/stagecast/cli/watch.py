"""`stagecast watch`: the progress of a batch, for people and for programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeAlias

import click
from rich.console import Console

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.params import batch_argument, dataset_argument, examples
from stagecast.cli.render import plain
from stagecast.cli.render.output import is_terminal, print_json
from stagecast.cli.render.table import LiveTable
from stagecast.cli.target import Target, target_option
from stagecast.client import Stubs
from stagecast.client.datasets import dataset_id
from stagecast.runtime.event_loop import run
from stagecast.runtime.stdio import ended_without_reader
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

Show: TypeAlias = Callable[[pb.WatchBatchResponse], None]
Lost: TypeAlias = Callable[[], None]

_RECONNECT_S = 600.0  # for which a server may be unreachable


@click.command(
    epilog=examples(
        "watch 7c9e6679-7425-40de-944b-e07fc1f90ae7 first",
        "watch handbook first --json | jq .batch.counts",
    )
)
@dataset_argument
@batch_argument
@partial(target_option, timeout_s=_RECONNECT_S)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print each message of the watch as one line of protobuf JSON.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Continue after the end of the batch, as a retry may reopen it.",
)
def watch(dataset: str, batch: str, target: Target, as_json: bool, follow: bool) -> None:
    """Watch a batch until it has ended.

    DATASET is a UUID or a name, BATCH the id of a batch in it.

    On a terminal: a live table. In a pipe: a line per document at the start and then per
    transition, with tabs between revision, kind, state, stage, document, error, step; at the end a
    line that begins with 'batch'.

    A lost connection is resumed without missing anything, unless the server is unreachable for the
    --timeout.

    Exit code: 0 if all documents succeeded, 1 if the batch ended otherwise, 2 if the watch failed,
    74 if the output cannot be written.
    """
    request = pb.WatchBatchRequest(dataset_id=dataset_id(dataset), batch_id=batch, follow=follow)
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls, dataset=dataset):
        ended = run(_watch(target, request, as_json=as_json))
    raise click.exceptions.Exit(exit_code(ended))


def exit_code(batch: r.Batch) -> int:
    """Return 0 for a batch whose documents have all succeeded, else 1."""
    return 0 if batch.state == r.BATCH_STATE_SUCCEEDED else 1


async def follow_batch(
    client: Stubs,
    request: pb.WatchBatchRequest,
    *,
    as_json: bool = False,
    give_up_after_s: float = _RECONNECT_S,
    on_message: Show = lambda _message: None,
    on_lost: Lost | None = None,
    note: str = "",
) -> r.Batch:
    """Show a batch until the watch ends, and return its last state.

    Args:
        client: the server.
        request: names the batch.
        as_json: whether to print each message as JSON.
        give_up_after_s: for how long the server may be unreachable.
        on_message: called with each message as well.
        on_lost: called when the connection is lost; without it, a pipe gets a line about that.
        note: the last line of the live table.

    Raises:
        ExceptionGroup: of `grpc.aio.AioRpcError`, if the watch is refused or the server is
            unreachable; or of `OutputFailed`.
    """
    batch = r.Batch()
    async with (
        ended_without_reader(),
        _showing(as_json=as_json, on_lost=on_lost, note=note) as (show, lost),
        # Closed at once on cancellation, not by garbage collection.
        contextlib.aclosing(
            client.watch(request, give_up_after_s=give_up_after_s, on_lost=lost)
        ) as messages,
    ):
        async for message in messages:
            show(message)
            on_message(message)
            batch = message.batch
    return batch


def _both(first: Lost, second: Lost | None) -> Lost:
    """Return a function that calls two, of which the second may be missing."""

    def call() -> None:
        first()
        if second:
            second()

    return call


async def _watch(target: Target, request: pb.WatchBatchRequest, *, as_json: bool) -> r.Batch:
    async with target.connect() as client:
        return await follow_batch(
            client, request, as_json=as_json, give_up_after_s=target.timeout_s
        )


@contextlib.asynccontextmanager
async def _showing(
    *, as_json: bool, on_lost: Lost | None, note: str
) -> AsyncIterator[tuple[Show, Lost]]:
    """Give functions that show a message and report a lost connection.

    Messages are shown as JSON, in a live table, or as lines in a pipe.
    """
    if as_json:
        yield lambda message: print_json([message]), on_lost or _print_lost
    elif is_terminal(Console()):
        # Forced: rich would silently print nothing to a terminal that has closed meanwhile.
        async with LiveTable(Console(force_terminal=True), note=note) as table:
            yield table.apply, _both(table.lost, on_lost)
    else:
        yield plain.print_message, on_lost or _print_lost


def _print_lost() -> None:
    click.echo("connection to the server lost; reconnecting", err=True)
