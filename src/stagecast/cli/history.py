"""`stagecast history`: all transitions of a batch or of one document."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.paging import pages
from stagecast.cli.params import batch_argument, dataset_argument, document_argument, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.output import is_terminal, print_messages
from stagecast.cli.render.table import name_text, state_text
from stagecast.cli.target import Target, target_option
from stagecast.runtime.event_loop import run
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb


@click.command(
    epilog=examples(
        "history 7c9e6679-7425-40de-944b-e07fc1f90ae7 first",
        "history 7c9e6679-7425-40de-944b-e07fc1f90ae7 first manual.pdf",
    )
)
@dataset_argument
@batch_argument
@document_argument
@target_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print each transition as one line of protobuf JSON."
)
def history(dataset: str, batch: str, document: str | None, target: Target, as_json: bool) -> None:
    """List the transitions of a batch, oldest first.

    DATASET is a UUID, BATCH the id of a batch in it. With DOCUMENT, the id of a document in the
    batch, only its transitions are listed.

    On a terminal: a table. In a pipe: a line per transition, with tabs between revision, time,
    kind, document, state and stage before, state and stage after, attempt, worker, error.

    Exit code: 0 on success, 2 if the request failed, 74 if the output cannot be written.
    """
    request = pb.ListTransitionsRequest(
        dataset_id=dataset, batch_id=batch, document_id=document or ""
    )
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls):
        run(_history(target, request, as_json=as_json))


async def _history(target: Target, request: pb.ListTransitionsRequest, *, as_json: bool) -> None:
    console = Console()
    states = _PreviousStates()
    first = True
    async with target.connect() as client:
        async for page in pages(
            client.status.ListTransitions, request, lambda page: page.transitions
        ):
            if is_terminal(console) and not as_json:
                console.print(_table(page, states, time.time(), head=first))
            else:
                print_messages(page, partial(_fields, states), as_json=as_json)
            first = False


class _PreviousStates:
    """Finds the states of documents before transitions, which are read in order.

    A transition does not say whether its document was stalled before.
    """

    def __init__(self) -> None:
        self._stalled: set[str] = set()

    def state_word(self, transition: r.Transition) -> str:
        """Return the state before the next transition of a document."""
        document = transition.document.document_id
        # The transition to stalled may have been deleted by retention.
        recovered = transition.kind == r.TRANSITION_KIND_RECOVERED
        was_stalled = recovered or document in self._stalled
        note = self._stalled.add if transition.document.stalled else self._stalled.discard
        note(document)
        return "stalled" if was_stalled else formatting.previous_state_word(transition)


def _fields(states: _PreviousStates, transition: r.Transition) -> tuple[str, ...]:
    """Return a transition for a pipe; those of the batch itself have no document."""
    revision = str(transition.revision)
    committed = formatting.timestamp(transition.commit_time)
    kind = formatting.word(r.TransitionKind.DESCRIPTOR, transition.kind)
    if not transition.HasField("document"):
        return (revision, committed, kind, *[""] * 8)
    document = transition.document
    return (
        revision,
        committed,
        kind,
        document.document_id,
        states.state_word(transition),
        formatting.previous_stage_word(transition),
        formatting.document_word(document),
        formatting.stage_word(document),
        str(document.attempt),
        document.worker,
        formatting.error_field(document),
    )


def _table(
    transitions: Sequence[r.Transition], states: _PreviousStates, now_s: float, *, head: bool
) -> Table:
    """Return a page; all pages have the same column widths, and look like one table."""
    rows = Table(
        box=None,
        expand=True,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        header_style="dim",
        show_header=head,
    )
    moments = [formatting.moment(transition.commit_time, now_s) for transition in transitions]
    rows.add_column("rev", no_wrap=True, justify="right", min_width=5)
    rows.add_column("time", no_wrap=True, min_width=max(map(len, moments), default=0))
    rows.add_column("kind", no_wrap=True, width=13)
    rows.add_column("document", no_wrap=True, ratio=1)
    rows.add_column("change", overflow="fold", ratio=2)
    for transition, moment in zip(transitions, moments, strict=True):
        rows.add_row(
            str(transition.revision),
            moment,
            state_text(formatting.word(r.TransitionKind.DESCRIPTOR, transition.kind)),
            name_text(transition.document),
            Text(", ".join(_changes(states, transition))),
        )
    return rows


def _changes(states: _PreviousStates, transition: r.Transition) -> Iterator[str]:
    """Yield the changes of a document's transition, the one that its kind names first."""
    if not transition.HasField("document"):
        return
    document = transition.document
    state = (states.state_word(transition), formatting.document_word(document))
    stage = (formatting.previous_stage_word(transition), formatting.stage_word(document))
    changes = (
        [stage, state] if transition.kind == r.TRANSITION_KIND_STAGE_ENTERED else [state, stage]
    )
    yield from (f"{before} → {after}".strip() for before, after in changes if before != after)
    if document.HasField("error"):
        yield formatting.error_line(document)
    if document.attempt > 1:
        yield f"attempt {document.attempt}"
    if document.worker:
        yield formatting.shown(document.worker)
