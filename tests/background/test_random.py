"""Random silences, reports, deaths and clock jumps, compared with a simple model of stalls.

The model knows only the time that counts: since the last sign of life, or since the last pause or
jump of the clock.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from stagecast.model import ALL, DocumentState, Stage
from tests.background.node import BATCH, Node, open_node
from tests.builders import DATASET_ID
from tests.clock import Clock

_LATE_S = 4.0  # scans are up to 1.3 s apart, and wait 1 s for heartbeats that others have merged
_REPLACED_S = 9.0  # after a death the lease may be free this long, and the grace starts with it
_EARLY_S = 1.0  # signs of life this close together count as one


@dataclass
class _Expected:
    """The expected state of one document; times are of a clock that never jumps."""

    start_after_s: float
    stall_after_s: float
    fail_after_s: float
    since_s: float = 0.0
    state: DocumentState = DocumentState.PENDING
    stalled: bool = False

    @property
    def running(self) -> bool:
        return self.state is DocumentState.RUNNING

    @property
    def timeout_s(self) -> float:
        if self.state is DocumentState.PENDING:
            return 0 if self.stalled else self.start_after_s
        if not self.running:
            return 0
        return self.fail_after_s if self.stalled else self.stall_after_s


class _Run:
    """One random run.

    Attributes:
        disturbed_s: the last pause or jump of the clock.
        settled_s: the latest start of the grace after that, or after a new lease holder.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self.chance = random.Random(seed)
        self.clock = clock
        self.documents: dict[str, _Expected] = {}
        self.disturbed_s = 0.0
        self.settled_s = 0.0

    async def create(self, node: Node) -> None:
        for number in range(6):
            stall_s, fail_s = self.chance.choice([0, 1, 5, 20]), self.chance.choice([0, 1, 8])
            start_s = self.chance.choice([0, 1, 5, 20])
            batch_id = f"{BATCH}-{number}"
            await node.create(
                "a",
                start_after_s=start_s,
                stall_after_s=stall_s,
                fail_after_s=fail_s,
                batch_id=batch_id,
            )
            self.documents[batch_id] = _Expected(start_s, stall_s, fail_s)

    async def disturb(
        self, nodes: list[Node], path: Path, stack: contextlib.AsyncExitStack
    ) -> None:
        """Let a process die, start, release the lease or hang, or the clock jump."""
        match self.chance.randrange(5):
            case 0 if len(nodes) > 1:
                nodes.pop(self.chance.randrange(len(nodes)))
            case 1 if len(nodes) < 3:
                nodes.append(await stack.enter_async_context(open_node(path, self.clock)))
            case 2:
                await self.chance.choice(nodes).detector.release()
            case 3:
                self.clock.pass_time(self.chance.choice([4, 60, 86_400]))
                self.disturbed_s = self.clock.passed_s
            case _:
                self.clock.advance(self.chance.choice([-86_400, -3_600, 10, 3_600]))
                self.disturbed_s = self.clock.passed_s
        self.settled_s = self.clock.passed_s + _REPLACED_S

    async def act(self, node: Node, batch_id: str) -> None:
        """Let a worker or an operator do something to a document."""
        expected = self.documents[batch_id]
        match self.chance.randrange(9):
            case 0 if expected.running:
                await node.heartbeat("a", batch_id=batch_id)
            case 1:
                await node.start("a", batch_id=batch_id)
            case 2:
                await node.start("a", worker=str(self.chance.random()), batch_id=batch_id)
            case 3 if expected.running:
                await node.report("a", self.chance.choice(list(Stage)[:3]), batch_id=batch_id)
            case 4 if expected.running:
                completed = self.chance.randrange(50)
                await node.report("a", completed=completed, batch_id=batch_id)
            case 5:
                await node.controls.pause(DATASET_ID, batch_id, "a", visible=ALL)
            case 6 if expected.state is DocumentState.PAUSED:
                await node.controls.resume(DATASET_ID, batch_id, "a", visible=ALL)
            case 7 if expected.state.terminal:
                await node.controls.retry(DATASET_ID, batch_id, "a", visible=ALL)
            case _:
                return
        expected.state = (await node.document("a", batch_id)).state
        expected.since_s, expected.stalled = self.clock.passed_s, False

    async def check(self, node: Node, batch_id: str) -> None:
        """Compare a document with the transitions that are possible and those that are overdue."""
        expected = self.documents[batch_id]
        document = await node.document("a", batch_id=batch_id)
        now_s = self.clock.passed_s
        silent_s = now_s - max(expected.since_s, self.disturbed_s)
        has_stalled = document.stalled and not expected.stalled
        lost = expected.running and document.state is DocumentState.FAILED
        if has_stalled or lost:
            assert lost == expected.stalled, "it stalls before it is lost"
            assert 0 < expected.timeout_s < silent_s + _EARLY_S, "too early"
            expected.since_s, expected.stalled = now_s, has_stalled
            expected.state = document.state
            return
        assert document.stalled == expected.stalled
        counted_s = now_s - max(expected.since_s, self.settled_s)
        overdue = 0 < expected.timeout_s < counted_s - _LATE_S
        assert not overdue, "too late"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
async def test_documents_stall_and_fail_as_the_model_predicts(
    path: Path, clock: Clock, seed: int
) -> None:
    run = _Run(seed, clock)
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_node(path, clock)) for _ in range(2)]
        await run.create(nodes[0])
        stalls = 0
        for _ in range(400):
            clock.pass_time(run.chance.uniform(0.4, 1.3))
            for node in nodes:
                await node.detector.scan()
            for batch_id in run.documents:
                await run.check(nodes[0], batch_id)
            stalls += sum(expected.stalled for expected in run.documents.values())
            if run.chance.random() < 0.25:
                await run.act(run.chance.choice(nodes), run.chance.choice(list(run.documents)))
            if run.chance.random() < 0.01:
                await run.disturb(nodes, path, stack)
        assert stalls, "the run had stalls"
