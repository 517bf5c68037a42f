"""One check for all deadlines, at an eighth of the shortest interval."""

from __future__ import annotations

import asyncio

from stagecast.watches.deadlines import Deadlines
from tests.conditions import until

NEVER_S = 3_600.0
BRIEFLY_S = 0.01


class Member:
    """Records its checks."""

    def __init__(self) -> None:
        self.checks: list[tuple[float, float]] = []

    def check(self, now_s: float, next_s: float) -> None:
        self.checks.append((now_s, next_s))


async def test_members_are_checked_at_the_shortest_interval_of_all() -> None:
    deadlines, often, rarely = Deadlines(), Member(), Member()
    deadlines.add(rarely, NEVER_S)
    deadlines.add(often, BRIEFLY_S)
    await until(lambda: len(rarely.checks) >= 3)
    assert often.checks[:3] == rarely.checks[:3]
    for now_s, next_s in often.checks:
        assert now_s < next_s <= now_s + BRIEFLY_S / 4
    deadlines.remove(often)
    deadlines.remove(rarely)


async def test_interval_grows_again_when_the_member_with_the_shortest_leaves() -> None:
    deadlines, often, rarely = Deadlines(), Member(), Member()
    deadlines.add(often, BRIEFLY_S)
    deadlines.add(rarely, NEVER_S)
    await until(lambda: bool(rarely.checks))
    deadlines.remove(often)
    await until(lambda: rarely.checks[-1][1] - rarely.checks[-1][0] > NEVER_S / 16)
    deadlines.remove(rarely)


async def test_nothing_runs_without_members() -> None:
    deadlines, member = Deadlines(), Member()
    assert deadlines._timer is None
    deadlines.add(member, NEVER_S)
    assert deadlines._timer is not None
    deadlines.remove(member)
    assert deadlines._timer is None
    deadlines.remove(member)  # once more is harmless


async def test_member_may_leave_during_a_check() -> None:
    deadlines = Deadlines()

    class Leaving(Member):
        def check(self, now_s: float, next_s: float) -> None:
            super().check(now_s, next_s)
            deadlines.remove(self)

    members = [Leaving(), Leaving()]
    for member in members:
        deadlines.add(member, BRIEFLY_S)
    await until(lambda: deadlines._timer is None)
    assert [len(member.checks) for member in members] == [1, 1]


async def test_error_of_a_member_does_not_end_the_checks() -> None:
    deadlines, other = Deadlines(), Member()

    class Failing(Member):
        def check(self, now_s: float, next_s: float) -> None:
            super().check(now_s, next_s)
            raise LookupError

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    failing = Failing()
    deadlines.add(failing, BRIEFLY_S)
    deadlines.add(other, BRIEFLY_S)
    await until(lambda: len(failing.checks) >= 2)
    deadlines.remove(failing)
    await until(lambda: len(other.checks) >= 2)
    deadlines.remove(other)
