"""`stagecast history`: all transitions of a batch or of one document."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import click
from rich.cells import cell_len, chop_cells
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stagecast.cli.errors import reported_in_one_line
from stagecast.cli.paging import pages
from stagecast.cli.params import batch_argument, dataset_argument, document_argument, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.output import is_terminal, print_messages
from stagecast.cli.render.table import name_text, state_text
from stagecast.cli.target import Target, target_option
from stagecast.client.datasets import dataset_id
from stagecast.runtime.event_loop import run
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

_HEADS = ("rev", "time", "kind", "document", "change")
_REVISION, _KIND, _GAP = 5, 13, 2  # cells
_MIN_ROOM = 30  # cells of a document and its change on one line


@click.command(
    epilog=examples(
        "history 7c9e6679-7425-40de-944b-e07fc1f90ae7 first",
        "history handbook first manual.pdf",
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

    DATASET is a UUID or a name, BATCH the id of a batch in it. With DOCUMENT, the id of a document
    in the batch, only its transitions are listed.

    On a terminal: a table. In a pipe: a line per transition, with tabs between revision, time,
    kind, document, state and stage before, state and stage after, attempt, worker, error, step.

    Exit code: 0 on success, 2 if the request failed, 74 if the output cannot be written.
    """
    request = pb.ListTransitionsRequest(
        dataset_id=dataset_id(dataset), batch_id=batch, document_id=document or ""
    )
    with reported_in_one_line(target.address, tls=target.credentials.speaks_tls, dataset=dataset):
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
                console.print(_table(page, states, time.time(), width=console.width, head=first))
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
        return (revision, committed, kind, *[""] * 9)
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
        formatting.step(document.progress),
    )


def _table(
    transitions: Sequence[r.Transition],
    states: _PreviousStates,
    now_s: float,
    *,
    width: int,
    head: bool,
) -> Group:
    """Return a page; all pages have the same column widths, and look like one table.

    An id that is wider than its column is never cut: it gets lines of its own, below its
    transition, as does the change then.
    """
    moments = [formatting.moment(transition.commit_time, now_s) for transition in transitions]
    columns = _columns(transitions, moments, width)
    heads = _HEADS if columns[-1] else (*_HEADS[:3], "", "")
    parts: list[RenderableType] = [_rows([heads], columns, "dim")] if head else []
    for transition, moment in zip(transitions, moments, strict=True):
        name = formatting.shown(transition.document.document_id)
        kind = state_text(formatting.word(r.TransitionKind.DESCRIPTOR, transition.kind))
        change = Text(", ".join(_changes(states, transition)))
        start = (Text(str(transition.revision)), Text(moment), kind)
        if cell_len(name) <= columns[-1]:
            parts.append(_rows([(*start, name_text(transition.document), change)], columns))
        else:
            indent = columns[0] + _GAP
            lines = chop_cells(name, max(1, width - indent))  # not at blanks, which would be lost
            below = Group(*map(Text, lines), change)
            parts += [_rows([(*start, "", "")], columns), Padding(below, (0, 0, 0, indent))]
    return Group(*parts)


def _columns(
    transitions: Sequence[r.Transition], moments: Sequence[str], width: int
) -> tuple[int, ...]:
    """Return the widths of all columns but the last; 0 for documents if there is no room."""
    revisions = [len(str(transition.revision)) for transition in transitions]
    first = (max((_REVISION, *revisions)), max(map(cell_len, (_HEADS[1], *moments))), _KIND)
    room = width - sum(first) - _GAP * len(first)
    return (*first, room // 3 - _GAP if room >= _MIN_ROOM else 0)


def _rows(
    rows: Iterable[Sequence[RenderableType]], columns: Sequence[int], style: str = ""
) -> Table:
    """Return rows with columns of these widths, and a last one that takes the rest."""
    table = Table(
        box=None,
        expand=True,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        show_header=False,
        row_styles=[style],
    )
    for number, width in enumerate(columns):
        table.add_column(no_wrap=True, width=max(1, width), justify="left" if number else "right")
    table.add_column(overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*row)
    return table


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
    if document.progress.HasField("step"):
        yield formatting.shown(formatting.step(document.progress))
    if document.attempt > 1:
        yield f"attempt {document.attempt}"
    if document.worker:
        yield formatting.shown(document.worker)
