"""Each documented promise names an existing test, and documented limits are those of the code."""

from __future__ import annotations

import re

from stagecast import app, threads
from stagecast.config import Config
from stagecast.rest import protocol, slow_readers
from stagecast.rpc import request_reader, unread_answers
from stagecast.store.sqlite import connection, store
from stagecast.wire import report_requests as reports
from tests.documents import DOCS

_NAMED = re.compile(r"\[`(test_\w+)`\]\((\S+\.py)\)")


def test_every_promise_names_a_test_that_exists() -> None:
    guarantees = (DOCS / "guarantees.md").read_text()
    tables = guarantees.split("| promise | checked by |")[1:]
    rows = [table.partition("\n\n")[0].splitlines()[2:] for table in tables]
    assert [len(table) for table in rows] == [10, 6, 10, 11, 12]
    assert all(_NAMED.search(row) for table in rows for row in table)
    for name, path in _NAMED.findall(guarantees):
        assert f"def {name}(" in (DOCS / path).read_text(), name


def test_documented_limits_are_those_of_the_code() -> None:
    operations = (DOCS / "operations.md").read_text()
    rows = operations.partition("| what | limit | option |")[2].partition("\n\n")[0]
    documented = [row.split(" | ")[1] for row in rows.splitlines()[2:]]
    ours, mib, kib = Config(), 1 << 20, 1 << 10
    answer_s, unread_mib = unread_answers._SHORT_TIMEOUT_S, ours.max_waiting_bytes // mib
    http_s = slow_readers._SHORT_TIMEOUT_S
    many, short_s = request_reader._MANY, request_reader._SHORT_TIMEOUT_S
    assert documented == [
        f"{ours.max_watches_per_caller:,}",
        f"{ours.max_watches:,}",
        f"{ours.wait_s:.0f} s",
        f"{ours.watch_life_s:,.0f} s",
        f"{ours.slow_reader_s:.0f} s",
        f"{ours.slow_reader_s:.0f} s; {answer_s:.0f} s beyond {unread_mib} MiB of such answers",
        f"{ours.slow_reader_s:.0f} s; {http_s:.0f} s beyond {unread_mib} MiB of such data",
        f"{ours.max_waiting_calls:,}, with {ours.max_waiting_bytes // mib} MiB of requests",
        f"{ours.max_connections:,}",
        f"{ours.max_message_bytes // mib} MiB, {ours.max_header_bytes // kib} KiB",
        f"{ours.max_message_bytes // mib} MiB",
        f"{ours.max_url_bytes // kib} KiB, {ours.max_header_bytes // kib} KiB",
        f"{ours.request_s:.0f} s",
        f"{ours.request_s:.0f} s; {short_s:.0f} s while {many} others are on their way",
        f"{connection.BUSY_TIMEOUT_MS / 1_000:.0f} s",
        f"{ours.request_s:.0f} s",
        f"{protocol._MAX_PIPELINED} more",
        f"{reports._MAX_DOCUMENTS:,}, {reports._MAX_REPORTS:,}",
        f"32, {reports._MAX_MESSAGE:,}",  # labels: at their limit in tests/wire/test_checks.py
        f"{ours.keepalive_s + ours.keepalive_timeout_s:.0f} s",
        f"{ours.http_idle_s:.0f} s",
        f"{ours.drain_s:.0f} s",
        f"{app.LAST_WRITES_S:.0f} s, {store.CLOSE_S:.0f} s",
        f"{threads._CLEANUP_S:.0f} s",
    ]
