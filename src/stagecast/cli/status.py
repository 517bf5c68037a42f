"""`stagecast status`: a dataset with its batches, or a batch with its documents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import click
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.paging import pages
from stagecast.cli.params import check_id, dataset_argument, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.listing import batch_fields, batches_table
from stagecast.cli.render.output import is_terminal, print_things
from stagecast.cli.render.table import documents_table, failures, state_text, summary
from stagecast.cli.render.view import View
from stagecast.cli.target import Target, target_option
from stagecast.client import Client
from stagecast.runtime.event_loop import run
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

OPEN = (r.BATCH_STATE_PENDING, r.BATCH_STATE_RUNNING, r.BATCH_STATE_PAUSED)

_LINES_AROUND = 8  # what was typed, summary (up to 4), head, foot, the next prompt
_MIN_WIDTH = 5  # rows, on however small a terminal


@click.command(
    epilog=examples(
        "status 7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "status 7c9e6679-7425-40de-944b-e07fc1f90ae7 first",
        "status 7c9e6679-7425-40de-944b-e07fc1f90ae7 first | grep failed",
    )
)
@dataset_argument
@click.argument("batch", required=False, callback=check_id)
@target_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print protobuf JSON: a line for the dataset or batch, then one for each in it.",
)
def status(dataset: str, batch: str | None, target: Target, as_json: bool) -> None:
    """Show how far a dataset or a batch is now.

    DATASET is a UUID: it is shown with its batches, newest first. With BATCH, the id of a batch in
    it, that one is shown with its documents.

    On a terminal this is one screen: of many batches those that are open and the newest, of many
    documents those that run and those that failed. In a pipe it is everything, with tabs between
    the fields: first a line for the dataset or batch, then for each batch its dataset, id,
    state, since when, how long, contents; for each document its id, state, stage, attempt,
    segments, time, last change, error.

    Exit code: 0, 2 if it cannot be asked, 74 if its output cannot be written.
    """
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls):
        run(_status(target, dataset, batch, as_json=as_json))


async def _status(target: Target, dataset: str, batch: str | None, *, as_json: bool) -> None:
    console = Console()
    people = is_terminal(console) and not as_json
    async with target.connect() as client:
        if batch is None:
            whole = await client.status.GetDataset(pb.GetDatasetRequest(dataset_id=dataset))
            if people:
                await _show_dataset(client, console, whole.dataset)
            else:
                await _print_dataset(client, whole.dataset, as_json=as_json)
        else:
            request = pb.GetBatchRequest(dataset_id=dataset, batch_id=batch)
            part = await client.status.GetBatch(request)
            if people:
                await _show_batch(client, console, part.batch)
            else:
                await _print_batch(client, part.batch, as_json=as_json)


async def _print_dataset(client: Client, dataset: r.Dataset, *, as_json: bool) -> None:
    print_things([dataset], _dataset_fields, as_json=as_json)
    fields = partial(batch_fields, now_s=time.time())
    request = pb.ListBatchesRequest(dataset_id=dataset.dataset_id)
    async for page in pages(client.status.ListBatches, request, lambda page: page.batches):
        print_things(page, fields, as_json=as_json)


async def _print_batch(client: Client, batch: r.Batch, *, as_json: bool) -> None:
    now_s = time.time()
    print_things([batch], partial(batch_fields, now_s=now_s), as_json=as_json)
    fields = partial(_document_fields, now_s=now_s)
    request = pb.ListDocumentsRequest(dataset_id=batch.dataset_id, batch_id=batch.batch_id)
    async for page in pages(client.status.ListDocuments, request, lambda page: page.documents):
        print_things(page, fields, as_json=as_json)


async def _show_dataset(client: Client, console: Console, dataset: r.Dataset) -> None:
    now_s = time.time()
    batches = await _most_urgent(client, dataset, _rows_of(console))
    counts, changed = dataset.counts, formatting.moment(dataset.update_time, now_s)
    state = formatting.word(r.DatasetState.DESCRIPTOR, dataset.state)
    console.print(Text(dataset.dataset_id, "bold"), state_text(state), sep="  ")
    documents = formatting.documents_line(counts)
    console.print(
        Text(
            f"{formatting.batches_line(dataset)}; {documents}: {formatting.counts_line(counts)}",
            "dim",
        )
    )
    console.print(Text(f"last change {changed}", "dim"))
    if batches:
        console.print(batches_table(batches, now_s, width=console.width))
    _tell_hidden(console, dataset.batches - len(batches))


async def _most_urgent(client: Client, dataset: r.Dataset, limit: int) -> Sequence[r.Batch]:
    """Return so many batches, newest first: the open ones, then those that are new."""
    batches: dict[str, r.Batch] = {}
    for states in (OPEN, ()):
        request = pb.ListBatchesRequest(dataset_id=dataset.dataset_id, states=states)
        async for page in pages(
            client.status.ListBatches, request, lambda page: page.batches, limit=limit
        ):
            for batch in page:
                if len(batches) < limit:
                    batches.setdefault(batch.batch_id, batch)
    return sorted(
        batches.values(), key=lambda batch: batch.create_time.ToNanoseconds(), reverse=True
    )


async def _show_batch(client: Client, console: Console, batch: r.Batch) -> None:
    view = await _view_of(client, batch)
    rows = _rows_of(console)
    failed = min(batch.counts.failed, rows // 4)
    around = 2 if failed else 0  # an empty line before them, how many more after them
    documents = view.documents(max(_MIN_WIDTH, rows - failed - around))
    console.print(summary(batch))
    console.print(Text(_times_line(batch, view.now_s), "dim"))
    if documents:
        console.print(documents_table(documents, view.now_s))
    _tell_hidden(console, len(view) - len(documents))
    console.print(failures(view, limit=failed))


async def _view_of(client: Client, batch: r.Batch) -> View:
    """Return all documents of a batch, to find those that matter most."""
    now = Timestamp()
    now.GetCurrentTime()
    view = View()
    view.apply(pb.WatchBatchResponse(batch=batch, server_time=now))
    request = pb.ListDocumentsRequest(dataset_id=batch.dataset_id, batch_id=batch.batch_id)
    async for page in pages(client.status.ListDocuments, request, lambda page: page.documents):
        view.add(page)
    return view


def _rows_of(console: Console) -> int:
    return max(_MIN_WIDTH, console.height - _LINES_AROUND)


def _tell_hidden(console: Console, hidden: int) -> None:
    if hidden > 0:
        console.print(Text(f"… and {hidden} more; in a pipe (| less) all are listed", "dim"))


def _times_line(batch: r.Batch, now_s: float) -> str:
    since = formatting.moment(batch.create_time, now_s)
    elapsed = formatting.batch_elapsed(batch, now_s)
    if batch.HasField("end_time"):
        return f"since {since}, ended {formatting.moment(batch.end_time, now_s)} after {elapsed}"
    return (
        f"since {since}, for {elapsed}; last change {formatting.moment(batch.update_time, now_s)}"
    )


def _dataset_fields(dataset: r.Dataset) -> tuple[str, ...]:
    return (
        dataset.dataset_id,
        formatting.word(r.DatasetState.DESCRIPTOR, dataset.state),
        formatting.batches_line(dataset),
        formatting.timestamp(dataset.update_time),
        formatting.counts_line(dataset.counts),
    )


def _document_fields(document: r.Document, now_s: float) -> tuple[str, ...]:
    return (
        document.document_id,
        formatting.document_word(document),
        formatting.stage_word(document),
        str(document.attempt),
        formatting.segments(document.progress),
        formatting.elapsed(document, now_s),
        formatting.timestamp(document.update_time),
        formatting.error_field(document),
    )
