"""`stagecast pause`, `resume`, `stop`, `retry`: control of a batch or of one document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.params import batch_argument, dataset_argument, document_argument, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.output import print_json
from stagecast.cli.target import Target, target_option
from stagecast.client.datasets import dataset_id
from stagecast.runtime.event_loop import run
from stagecast.runtime.stdio import echo
from stagecast.v1 import control_service_pb2 as pb

if TYPE_CHECKING:  # the stub of an aio channel, which differs in its types only
    from stagecast.v1.control_service_pb2_grpc import ControlServiceAsyncStub

_Response: TypeAlias = pb.PauseResponse | pb.ResumeResponse | pb.StopResponse | pb.RetryResponse
_Call: TypeAlias = "Callable[[ControlServiceAsyncStub], Awaitable[_Response]]"

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the response as one line of protobuf JSON."
)


def _command(function: Callable[..., None]) -> click.Command:
    """Make a command of a function of `dataset`, `batch`, `document`, `target` and `as_json`."""
    ids = f"{function.__name__} 7c9e6679-7425-40de-944b-e07fc1f90ae7 first"
    for parameter in (
        _json_option,
        target_option,
        document_argument,
        batch_argument,
        dataset_argument,
    ):
        function = parameter(function)
    named = f"{function.__name__} handbook first manual.pdf"
    return click.command(epilog=examples(ids, named))(function)


@_command
def pause(target: Target, dataset: str, as_json: bool, **ids: str | None) -> None:
    """Pause the pending and running documents of a batch.

    DATASET is a UUID or a name, BATCH the id of a batch in it. With DOCUMENT, the id of a document
    in the batch, only this one is paused. `resume` continues them.

    Exit code: 0 on success, even without any change; 2 if the request failed, 74 if the output
    cannot be written.
    """
    request = pb.PauseRequest(**_ids_of(dataset, ids))
    response = _send(target, lambda controls: controls.Pause(request), dataset)
    _show(response, "pause", "paused", as_json=as_json)


@_command
def resume(target: Target, dataset: str, as_json: bool, **ids: str | None) -> None:
    """Resume the paused documents of a batch.

    DATASET is a UUID or a name, BATCH the id of a batch in it. With DOCUMENT, the id of a document
    in the batch, only this one is resumed.

    Exit code: 0 on success, even without any change; 2 if the request failed, 74 if the output
    cannot be written.
    """
    request = pb.ResumeRequest(**_ids_of(dataset, ids))
    response = _send(target, lambda controls: controls.Resume(request), dataset)
    _show(response, "resume", "resumed", as_json=as_json)


@_command
def stop(target: Target, dataset: str, as_json: bool, **ids: str | None) -> None:
    """Stop the documents of a batch that have not ended.

    DATASET is a UUID or a name, BATCH the id of a batch in it. With DOCUMENT, the id of a document
    in the batch, only this one is stopped. `retry` starts them again.

    Exit code: 0 on success, even without any change; 2 if the request failed, 74 if the output
    cannot be written.
    """
    request = pb.StopRequest(**_ids_of(dataset, ids))
    response = _send(target, lambda controls: controls.Stop(request), dataset)
    _show(response, "stop", "stopped", as_json=as_json)


@_command
def retry(target: Target, dataset: str, as_json: bool, **ids: str | None) -> None:
    """Retry the failed and stopped documents of a batch.

    DATASET is a UUID or a name, BATCH the id of a batch in it. With DOCUMENT, the id of a document
    in the batch, only this one is retried, even if it succeeded. Retried documents are pending
    again and wait for a worker.

    Exit code: 0 on success, even without any change; 2 if the request failed, 74 if the output
    cannot be written.
    """
    request = pb.RetryRequest(**_ids_of(dataset, ids))
    response = _send(target, lambda controls: controls.Retry(request), dataset)
    _show(response, "retry", "retried", as_json=as_json)


def _ids_of(dataset: str, ids: dict[str, str | None]) -> dict[str, Any]:
    """Return the id fields of a request."""
    others = {f"{name}_id": value for name, value in ids.items() if value is not None}
    return {"dataset_id": dataset_id(dataset), **others}


def _send(target: Target, call: _Call, dataset: str) -> _Response:
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls, dataset=dataset):
        return run(_call(target, call))


async def _call(target: Target, call: _Call) -> _Response:
    async with target.connect() as client:
        return await call(client.controls)


def _show(response: _Response, verb: str, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json([response])
    else:
        echo(_describe(response, verb, done))


def _describe(response: _Response, verb: str, done: str) -> str:
    batch, changed = response.batch, response.changed_documents
    state = formatting.batch_word(batch).replace("_", " ")
    what = f"{formatting.quantity(changed, 'document', 'documents')} {done}"
    return (
        f"{what if changed else f'nothing to {verb}'}; "
        f"batch {batch.batch_id} is {state}: {formatting.contents_line(batch)}"
    )
