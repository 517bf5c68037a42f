"""`stagecast batches`: the batches of all datasets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

import click
from rich.console import Console
from rich.text import Text

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.paging import pages
from stagecast.cli.params import check_dataset, examples
from stagecast.cli.render.listing import batch_fields, batches_table
from stagecast.cli.render.output import is_terminal, print_messages
from stagecast.cli.status import OPEN
from stagecast.cli.target import Target, target_option
from stagecast.client import Stubs
from stagecast.client.datasets import dataset_id
from stagecast.runtime.event_loop import run
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

_LIMIT = 20  # on a terminal


@click.command(
    epilog=examples(
        "batches --open",
        "batches --dataset 7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "batches --dataset handbook --limit 5",
    )
)
@click.option("--open", "only_open", is_flag=True, help="Show only batches that have not ended.")
@click.option(
    "--dataset",
    callback=check_dataset,
    help="Show only batches of this dataset, a UUID or a name.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help=f"Show only this many, the newest.  [default: {_LIMIT} on a terminal, else all]",
)
@target_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print each batch as one line of protobuf JSON."
)
def batches(
    only_open: bool, dataset: str | None, limit: int | None, target: Target, as_json: bool
) -> None:
    """List batches of all datasets, newest first.

    On a terminal: a table. `3/12, 1 failed` means that 3 of 12 documents have ended and one of them
    failed; `3/12+` means that more documents may follow.

    In a pipe: a line per batch, with tabs between dataset, id, state, creation time, duration,
    contents.

    Exit code: 0 on success, 2 if the request failed, 74 if the output cannot be written.
    """
    request = pb.ListBatchesRequest(states=OPEN if only_open else ())
    if dataset is not None:
        request.dataset_id = dataset_id(dataset)
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls, dataset=dataset):
        run(_batches(target, request, limit, as_json=as_json))


async def _batches(
    target: Target, request: pb.ListBatchesRequest, limit: int | None, *, as_json: bool
) -> None:
    console = Console()
    async with target.connect() as client:
        if is_terminal(console) and not as_json:
            await _show(client, console, request, limit or _LIMIT)
        else:
            await _print(client, request, limit, as_json=as_json)


async def _print(
    client: Stubs, request: pb.ListBatchesRequest, limit: int | None, *, as_json: bool
) -> None:
    fields = partial(batch_fields, now_s=time.time())
    async for page in pages(
        client.status.ListBatches, request, lambda page: page.batches, limit=limit
    ):
        print_messages(page, fields, as_json=as_json)


async def _show(
    client: Stubs, console: Console, request: pb.ListBatchesRequest, limit: int
) -> None:
    """Print the table; fetch one batch beyond the limit, to know whether there are more."""
    batches: list[r.Batch] = []
    async for page in pages(
        client.status.ListBatches, request, lambda page: page.batches, limit=limit + 1
    ):
        batches += page
    if not batches:
        console.print(Text("no open batches" if request.states else "no batches", "dim"))
        return
    names = await _names(client, batches)
    console.print(batches_table(batches[:limit], time.time(), width=console.width, names=names))
    if len(batches) > limit:
        console.print(Text(f"… and older batches; --limit {5 * limit} shows more", "dim"))


async def _names(client: Stubs, batches: Iterable[r.Batch]) -> dict[str, str]:
    """Return the display names of the datasets of batches, by id."""
    request = pb.ListDatasetsRequest(dataset_ids={batch.dataset_id for batch in batches})
    names: dict[str, str] = {}
    async for page in pages(client.status.ListDatasets, request, lambda page: page.datasets):
        names |= {dataset.dataset_id: dataset.display_name for dataset in page}
    return names
