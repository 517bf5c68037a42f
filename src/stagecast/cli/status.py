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
from stagecast.cli.render.output import is_terminal, print_messages
from stagecast.cli.render.table import documents_table, failures, state_text, summary
from stagecast.cli.render.view import View
from stagecast.cli.target import Target, target_option
from stagecast.client import Stubs
from stagecast.client.datasets import dataset_id
from stagecast.runtime.event_loop import run
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

OPEN = (r.BATCH_STATE_PENDING, r.BATCH_STATE_RUNNING, r.BATCH_STATE_PAUSED)

_LINES_AROUND = 8  # command line, summary (up to 4), head, foot, next prompt
_MIN_ROWS = 5


@click.command(
    epilog=examples(
        "status 7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "status 7c9e6679-7425-40de-944b-e07fc1f90ae7 first",
        "status handbook first | grep failed",
    )
)
@dataset_argument
@click.argument("batch", required=False, callback=check_id)
@target_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print protobuf JSON: a line for the dataset or batch, then one per batch or document.",
)
def status(dataset: str, batch: str | None, target: Target, as_json: bool) -> None:
    """Show the status of a dataset or a batch.

    DATASET is a UUID or a name: the dataset is shown with its batches, newest first. With BATCH,
    the id of a batch in it, the batch is shown with its documents.

    On a terminal: one screen; of many batches the open and the newest ones, of many documents the
    running and the failed ones.

    In a pipe: everything, with tabs between the fields; first a line for the dataset (id, state,
    batches, last change, documents, name) or batch, then one per batch (dataset, id, state,
    creation time, duration, contents) or per document (id, state, stage, attempt, segments,
    duration, last change, error, step).

    Exit code: 0 on success, 2 if the request failed, 74 if the output cannot be written.
    """
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls, dataset=dataset):
        run(_status(target, dataset, batch, as_json=as_json))


async def _status(target: Target, dataset: str, batch: str | None, *, as_json: bool) -> None:
    console = Console()
    as_table = is_terminal(console) and not as_json
    async with target.connect() as client:
        if batch is None:
            whole = await client.status.GetDataset(
                pb.GetDatasetRequest(dataset_id=dataset_id(dataset))
            )
            if as_table:
                await _show_dataset(client, console, whole.dataset)
            else:
                await _print_dataset(client, whole.dataset, as_json=as_json)
        else:
            request = pb.GetBatchRequest(dataset_id=dataset_id(dataset), batch_id=batch)
            part = await client.status.GetBatch(request)
            if as_table:
                await _show_batch(client, console, part.batch)
            else:
                await _print_batch(client, part.batch, as_json=as_json)


async def _print_dataset(client: Stubs, dataset: r.Dataset, *, as_json: bool) -> None:
    print_messages([dataset], _dataset_fields, as_json=as_json)
    fields = partial(batch_fields, now_s=time.time())
    request = pb.ListBatchesRequest(dataset_id=dataset.dataset_id)
    async for page in pages(client.status.ListBatches, request, lambda page: page.batches):
        print_messages(page, fields, as_json=as_json)


async def _print_batch(client: Stubs, batch: r.Batch, *, as_json: bool) -> None:
    now_s = time.time()
    print_messages([batch], partial(batch_fields, now_s=now_s), as_json=as_json)
    fields = partial(_document_fields, now_s=now_s)
    request = pb.ListDocumentsRequest(dataset_id=batch.dataset_id, batch_id=batch.batch_id)
    async for page in pages(client.status.ListDocuments, request, lambda page: page.documents):
        print_messages(page, fields, as_json=as_json)


async def _show_dataset(client: Stubs, console: Console, dataset: r.Dataset) -> None:
    now_s = time.time()
    batches = await _open_and_newest(client, dataset, _rows_of(console))
    counts, changed = dataset.counts, formatting.moment(dataset.update_time, now_s)
    state = formatting.word(r.DatasetState.DESCRIPTOR, dataset.state)
    name = formatting.dataset_name(dataset.dataset_id, dataset.display_name)
    console.print(Text(name, "bold"), state_text(state), sep="  ")
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
    _print_hidden(console, dataset.batches - len(batches))


async def _open_and_newest(client: Stubs, dataset: r.Dataset, limit: int) -> Sequence[r.Batch]:
    """Return up to `limit` batches, newest first: open ones before ended ones."""
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


async def _show_batch(client: Stubs, console: Console, batch: r.Batch) -> None:
    view = await _view_of(client, batch)
    rows = _rows_of(console)
    failed = min(batch.counts.failed, rows // 4)
    around = 2 if failed else 0  # an empty line before, a count of the others after
    documents = view.documents(max(_MIN_ROWS, rows - failed - around))
    console.print(summary(batch))
    console.print(Text(_times_line(batch, view.now_s), "dim"))
    if documents:
        console.print(documents_table(documents, view.now_s))
    _print_hidden(console, len(view) - len(documents))
    console.print(failures(view, limit=failed))


async def _view_of(client: Stubs, batch: r.Batch) -> View:
    """Return all documents of a batch, to find the most important ones."""
    now = Timestamp()
    now.GetCurrentTime()
    view = View()
    view.apply(pb.WatchBatchResponse(batch=batch, server_time=now))
    request = pb.ListDocumentsRequest(dataset_id=batch.dataset_id, batch_id=batch.batch_id)
    async for page in pages(client.status.ListDocuments, request, lambda page: page.documents):
        view.add(page)
    return view


def _rows_of(console: Console) -> int:
    return max(_MIN_ROWS, console.height - _LINES_AROUND)


def _print_hidden(console: Console, hidden: int) -> None:
    if hidden > 0:
        console.print(Text(f"… and {hidden} more; use a pipe (| less) to list all", "dim"))


def _times_line(batch: r.Batch, now_s: float) -> str:
    created = formatting.moment(batch.create_time, now_s)
    elapsed = formatting.batch_elapsed(batch, now_s)
    if batch.HasField("end_time"):
        return (
            f"created {created}, ended {formatting.moment(batch.end_time, now_s)} after {elapsed}"
        )
    changed = formatting.moment(batch.update_time, now_s)
    return f"created {created}, {elapsed} ago; last change {changed}"


def _dataset_fields(dataset: r.Dataset) -> tuple[str, ...]:
    return (
        dataset.dataset_id,
        formatting.word(r.DatasetState.DESCRIPTOR, dataset.state),
        formatting.batches_line(dataset),
        formatting.timestamp(dataset.update_time),
        formatting.counts_line(dataset.counts),
        dataset.display_name,
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
        formatting.step(document.progress),
    )
