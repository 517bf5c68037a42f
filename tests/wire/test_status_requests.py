"""Omitted fields of a request get their defaults, others are converted unchanged."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from stagecast import wire
from stagecast.model import DocumentQuery, DocumentState, Page, Stage, WatchRequest
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.builders import BATCH_ID, DATASET_ID

NAMES: dict[str, Any] = {"dataset_id": DATASET_ID, "batch_id": BATCH_ID}


def test_default_page_is_the_first_100() -> None:
    assert wire.document_query(ss.ListDocumentsRequest(**NAMES)) == DocumentQuery(
        **NAMES, states=frozenset(), stages=frozenset(), page=Page(size=100, token="")
    )


def test_filters_are_sets() -> None:
    query = wire.document_query(
        ss.ListDocumentsRequest(
            **NAMES,
            states=[r.DOCUMENT_STATE_FAILED, r.DOCUMENT_STATE_PENDING, r.DOCUMENT_STATE_FAILED],
            stages=[r.STAGE_INDEXING],
        )
    )
    assert query.states == {DocumentState.FAILED, DocumentState.PENDING}
    assert query.stages == {Stage.INDEXING}


def test_empty_watch_request_gets_the_defaults() -> None:
    assert wire.watch_request(ss.WatchBatchRequest(**NAMES)) == WatchRequest(
        **NAMES,
        resume_token="",
        follow=False,
        heartbeat_s=15.0,
        transitions_only=False,
        fail_on_expired_token=False,
    )


def test_watch_request_with_all_fields_is_converted() -> None:
    request = ss.WatchBatchRequest(
        **NAMES,
        resume_token="any",  # noqa: S106 - no secret
        follow=True,
        heartbeat_interval=Duration(seconds=1, nanos=500_000_000),
        transitions_only=True,
        fail_on_expired_token=True,
    )
    assert wire.watch_request(request) == WatchRequest(
        **NAMES,
        resume_token="any",  # noqa: S106 - no secret
        follow=True,
        heartbeat_s=1.5,
        transitions_only=True,
        fail_on_expired_token=True,
    )
