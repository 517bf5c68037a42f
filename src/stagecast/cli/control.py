"""`stagecast pause`, `resume`, `stop`, `retry`: what is to become of a batch or of a document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.params import batch_argument, dataset_argument, document_argument, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.output import print_json
from stagecast.cli.target import Target, target_option
from stagecast.runtime.event_loop import run
from stagecast.runtime.stdio import echo
from stagecast.v1 import control_service_pb2 as pb

if TYPE_CHECKING:  # the stub of an aio channel; only the types tell it from the other
    from stagecast.v1.control_service_pb2_grpc import ControlServiceAsyncStub

_Answer: TypeAlias = pb.PauseResponse | pb.ResumeResponse | pb.StopResponse | pb.RetryResponse
_Call: TypeAlias = "Callable[[ControlServiceAsyncStub], Awaitable[_Answer]]"

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the answer as one line of protobuf JSON."
)


def _command(function: Callable[..., None]) -> click.Command:
    """Make a command of what takes `dataset`, `batch`, `document`, `server` and `as_json`."""
    ids = f"{function.__name__} 7c9e6679-7425-40de-944b-e07fc1f90ae7 first"
    for parameter in (
        _json_option,
        target_option,
        document_argument,
        batch_argument,
        dataset_argument,
    ):
        function = parameter(function)
    return click.command(epilog=examples(ids, f"{ids} manual.pdf"))(function)


@_command
def pause(target: Target, as_json: bool, **ids: str | None) -> None:
    """Hold the documents of a batch that are pending or running.

    DATASET is a UUID, BATCH the id of a batch in it. With DOCUMENT, the id of a document in that,
    only this one. `resume` releases them.

    Exit code: 0, also if there was nothing to hold; 2 if it cannot be asked, 74 if its output
    cannot be written.
    """
    request = pb.PauseRequest(**_named(ids))
    _order(target, lambda controls: controls.Pause(request), "pause", "paused", as_json=as_json)


@_command
def resume(target: Target, as_json: bool, **ids: str | None) -> None:
    """Release the documents of a batch that are paused.

    DATASET is a UUID, BATCH the id of a batch in it. With DOCUMENT, the id of a document in that,
    only this one.

    Exit code: 0, also if there was nothing to release; 2 if it cannot be asked, 74 if its output
    cannot be written.
    """
    request = pb.ResumeRequest(**_named(ids))
    _order(target, lambda controls: controls.Resume(request), "resume", "resumed", as_json=as_json)


@_command
def stop(target: Target, as_json: bool, **ids: str | None) -> None:
    """End the documents of a batch that have not ended.

    DATASET is a UUID, BATCH the id of a batch in it. With DOCUMENT, the id of a document in that,
    only this one. `retry` begins them again.

    Exit code: 0, also if there was nothing to end; 2 if it cannot be asked, 74 if its output
    cannot be written.
    """
    request = pb.StopRequest(**_named(ids))
    _order(target, lambda controls: controls.Stop(request), "stop", "stopped", as_json=as_json)


@_command
def retry(target: Target, as_json: bool, **ids: str | None) -> None:
    """Begin the documents of a batch again that failed or were stopped.

    DATASET is a UUID, BATCH the id of a batch in it. With DOCUMENT, the id of a document in that,
    only this one, also if it succeeded. They are pending again and wait for a worker.

    Exit code: 0, also if there was nothing to begin again; 2 if it cannot be asked, 74 if its
    output cannot be written.
    """
    request = pb.RetryRequest(**_named(ids))
    _order(target, lambda controls: controls.Retry(request), "retry", "retried", as_json=as_json)


def _named(ids: dict[str, str | None]) -> dict[str, Any]:
    """Return the fields of a request that say what it is about."""
    return {f"{name}_id": value for name, value in ids.items() if value is not None}


def _order(target: Target, call: _Call, verb: str, done: str, *, as_json: bool) -> None:
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls):
        answer = run(_ask(target, call))
    if as_json:
        print_json([answer])
    else:
        echo(_in_words(answer, verb, done))


async def _ask(target: Target, call: _Call) -> _Answer:
    async with target.connect() as client:
        return await call(client.controls)


def _in_words(answer: _Answer, verb: str, done: str) -> str:
    batch, changed = answer.batch, answer.changed_documents
    state = formatting.batch_word(batch).replace("_", " ")
    what = f"{formatting.quantity(changed, 'document', 'documents')} {done}"
    return (
        f"{what if changed else f'nothing to {verb}'}; "
        f"batch {batch.batch_id} is {state}: {formatting.contents_line(batch)}"
    )
