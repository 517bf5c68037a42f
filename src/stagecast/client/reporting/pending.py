"""Which documents of a batch are pending, step by step: without waiting, for threads and for loops.

Each step is a document to work on, or a condition that is to be waited for before the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import NamedTuple, TypeAlias

from stagecast.client.records import NewDocument
from stagecast.client.reporting.core import BatchCore
from stagecast.client.reporting.queues import DocumentQueue
from stagecast.client.reporting.sharing import Sharing

_ABSENT_S = 0.2  # to wait for a server while nothing answers the port
_SILENT_S = 2.0  # while something does


class Wait(NamedTuple):
    """A condition to wait for, for some seconds or without limit, whether it comes true or not."""

    condition: Callable[[], bool]
    limit_s: float | None


class Work(NamedTuple):
    """A document to work on."""

    new: NewDocument
    queue: DocumentQueue


Steps: TypeAlias = Generator[Wait | Work, None, None]


def steps_of(core: BatchCore, *, follow: bool) -> Steps:
    """Return the steps of `BatchReporter.pending`, a generator to close when one stops early."""
    return _share(core) if follow else _list(core)


def _list(core: BatchCore) -> Steps:
    outbox, queue = core.engine.outbox, core.queue
    for page in core.pages():
        yield from _wait_for_server(core)
        yield from _work_on(core, page, listed=True)
    if not core.submitted:
        core.survey()
        yield from _wait_for_server(core)
        limit_s = _SILENT_S if outbox.reached else 0
        yield Wait(lambda: queue.ready or bool(outbox.offline), limit_s)
        yield from _work_on(core, core.listed(), listed=False)


def _work_on(core: BatchCore, news: Iterable[NewDocument], *, listed: bool) -> Steps:
    for new in news:
        if core.is_pending(new):
            yield Work(new, core.document(new, listed=listed))


def _share(core: BatchCore) -> Steps:
    yield from _wait_for_server(core)
    with Sharing(core) as sharing:
        while True:
            new = sharing.next()
            if new is not None:
                yield from _claim(core, sharing, new)
            elif core.engine.holds(sharing.over):
                return
            else:
                yield Wait(sharing.has_news, None)


def _claim(core: BatchCore, sharing: Sharing, new: NewDocument) -> Steps:
    queue = core.document(new, shared=True)
    sharing.claim(queue)
    try:
        yield Wait(partial(sharing.answered, queue), None)
    except BaseException:  # such as of Ctrl-C, which closes the steps
        sharing.abandon(queue)
        raise
    if sharing.has(queue):
        yield Work(new, queue)


def _wait_for_server(core: BatchCore) -> Steps:
    """Wait until the server has answered, once in a block, and not for long."""
    outbox = core.engine.outbox
    if core.waited:
        return
    core.waited = True
    yield Wait(lambda: core.queue.ready or outbox.answering, _ABSENT_S)
    if outbox.answering:
        yield Wait(lambda: core.queue.ready, _SILENT_S)
