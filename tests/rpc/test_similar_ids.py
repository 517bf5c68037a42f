"""Ids that look the same but differ in normalisation: macOS file names are NFD, typed text NFC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from tests.rpc.calls import BATCH, Calls, refused, stage

NFC, NFD = "caf\u00e9.txt", "cafe\u0301.txt"

CALLS: dict[str, Callable[[Calls, str], Awaitable[Any]]] = {
    "get": lambda calls, name: calls.document(name),
    "history": lambda calls, name: calls.history(name),
    "start": lambda calls, name: calls.start(name),
    "report": lambda calls, name: calls.report(stage(name, r.STAGE_PARSING)),
    "pause": lambda calls, name: calls.pause(name),
    "resume": lambda calls, name: calls.resume(name),
    "stop": lambda calls, name: calls.stop(name),
    "retry": lambda calls, name: calls.retry(name),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("there", "requested", "form"), [(NFD, NFC, "NFD"), (NFC, NFD, "NFC")])
async def test_id_that_differs_only_in_normalisation_is_suggested(
    calls: Calls,
    call: Callable[[Calls, str], Awaitable[Any]],
    there: str,
    requested: str,
    form: str,
) -> None:
    await calls.create("other", there)
    refusal = await refused(call(calls, requested))
    assert refusal.reason == "DOCUMENT_NOT_FOUND"
    assert refusal.message.removeprefix("reports[0]: ") == (
        f"no document '{requested}' in batch '{BATCH}' of dataset '{calls.dataset_id}'; "
        f"document '{there}' differs only in Unicode normalisation ({form})"
    )
    assert refusal.metadata["document_id"] == requested
    assert refusal.metadata["similar_document_id"] == there


async def test_refused_report_with_a_similar_id_has_its_index(calls: Calls) -> None:
    await calls.create("a", NFD)
    refusal = await refused(calls.report(stage("a", r.STAGE_PARSING), stage(NFC, r.STAGE_PARSING)))
    assert refusal.message.startswith("reports[1]: no document ")
    assert (refusal.metadata["index"], refusal.metadata["similar_document_id"]) == ("1", NFD)


async def test_unknown_id_without_a_similar_one_has_no_suggestion(calls: Calls) -> None:
    await calls.create(NFD)
    for unknown in ("cafe.txt", "caf\u00e8.txt"):
        refusal = await refused(calls.document(unknown))
        assert refusal.message.endswith(f"of dataset '{calls.dataset_id}'")
        assert "similar_document_id" not in refusal.metadata


async def test_heartbeat_with_a_similar_id_gets_drop(calls: Calls) -> None:
    await calls.create(NFD)
    await calls.start(NFD)
    orders = await calls.orders(NFC, NFD)
    assert orders == [rs.WORKER_ORDER_DROP, rs.WORKER_ORDER_GO_ON]


async def test_longest_similar_ids_are_both_in_the_details(calls: Calls) -> None:
    there, requested = "🗎" * 254 + "e\u0301", "🗎" * 254 + "\u00e9"
    await calls.create(there)
    for call in CALLS.values():
        refusal = await refused(call(calls, requested))
        assert refusal.reason == "DOCUMENT_NOT_FOUND"
        assert refusal.metadata["document_id"] == requested
        assert refusal.metadata["similar_document_id"] == there
        assert refusal.message.endswith("…")
