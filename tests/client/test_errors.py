"""The details of errors of stagecast, and of errors from elsewhere."""

from __future__ import annotations

import asyncio
import re

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

import stagecast
from stagecast import errors
from stagecast.client import ErrorDetails, Stubs, details_of
from stagecast.rpc.status import status_of
from stagecast.v1 import status_service_pb2 as s
from tests.process import ROOT, free_address
from tests.rpc.test_errors import TABLE

KEY = "grpc-status-details-bin"
NOTHING = ErrorDetails(reason="", metadata={}, retry_after_s=None)
INFO = ErrorInfo(reason="BATCH_NOT_FOUND", domain="stagecast", metadata={"batch_id": "b"})


def error_with(*metadata: tuple[str, str | bytes]) -> aio.AioRpcError:
    """Return an error of a call with trailing metadata."""
    return aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(*metadata), details="gone"
    )


def error_of(*details: Message | AnyMessage) -> aio.AioRpcError:
    """Return an error with details in its trailing metadata."""
    return error_with((KEY, Status(details=map(packed, details)).SerializeToString()))


def packed(detail: Message | AnyMessage) -> AnyMessage:
    """Return a detail packed as in a status."""
    if isinstance(detail, AnyMessage):
        return detail
    wrapped = AnyMessage()
    wrapped.Pack(detail)
    return wrapped


def retry_in(seconds: int, nanos: int = 0) -> RetryInfo:
    """Return a retry delay."""
    return RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))


_DRAWN = re.compile(r"^ {4}[│ ]*[├└]── (\w+) +([A-Z_]+\b)?")
_NAMED = re.compile("`([A-Z]+(?:_[A-Z]+)+)`")
_NO_REASONS = {"DECODE_ERROR", "WORKER_LOST"}  # of the failure of a document
_NOT_DRAWN = {"CallFailed", "StartError"}  # never sent


def test_every_error_of_a_server_has_a_public_class() -> None:
    for kind in TABLE:
        assert getattr(stagecast, kind.__name__) is kind


def test_reasons_in_the_protos_are_those_of_the_classes() -> None:
    protos = "".join(path.read_text() for path in (ROOT / "proto").rglob("*.proto"))
    reasons = {kind.reason for kind in TABLE}
    assert {reason for reason in reasons if f"`{reason}`" in protos} == reasons
    assert set(_NAMED.findall(protos)) - _NO_REASONS <= reasons


def test_tree_in_the_docstring_is_that_of_the_classes() -> None:
    drawn = ["StagecastError"]
    above = ["StagecastError"]
    for line in (errors.__doc__ or "").splitlines():
        if match := _DRAWN.match(line):
            name, reason = match.groups()
            kind = getattr(errors, name)
            del above[line.index("── ") // 4 :]
            assert kind.__bases__[0].__name__ == above[-1]
            assert reason == (None if name in _NOT_DRAWN else vars(kind).get("reason"))
            above.append(name)
            drawn.append(name)
    assert sorted(drawn) == sorted(
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.StagecastError)
    )


def test_details_have_reason_ids_and_retry_delay() -> None:
    assert details_of(error_of(INFO, retry_in(1, 250_000_000))) == ErrorDetails(
        reason="BATCH_NOT_FOUND", metadata={"batch_id": "b"}, retry_after_s=1.25
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            errors.BatchNotFound("d", "b"),
            ErrorDetails(
                reason="BATCH_NOT_FOUND",
                metadata={"dataset_id": "d", "batch_id": "b"},
                retry_after_s=None,
            ),
        ),
        (
            errors.TokenInvalid("resume_token", "malformed", batch_id="b"),
            ErrorDetails(
                reason="TOKEN_INVALID",
                metadata={"field": "resume_token", "batch_id": "b"},
                retry_after_s=None,
            ),
        ),
        (
            errors.Draining("about to stop", retry_after_s=0.25),
            ErrorDetails(reason="DRAINING", metadata={}, retry_after_s=0.25),
        ),
    ],
    ids=lambda each: type(each).__name__,
)
def test_details_match_what_the_server_writes(
    error: errors.StagecastError, expected: ErrorDetails
) -> None:
    assert details_of(error_with((KEY, status_of(error).SerializeToString()))) == expected


async def test_details_of_a_real_error_have_the_requested_ids(
    client: Stubs, dataset_id: str
) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await client.status.GetBatch(s.GetBatchRequest(dataset_id=dataset_id, batch_id="nothing"))
    details = details_of(caught.value)
    assert details.reason == "BATCH_NOT_FOUND"
    assert details.metadata == {"dataset_id": dataset_id, "batch_id": "nothing"}
    assert details.retry_after_s is None


async def test_error_of_an_unreachable_server_has_no_details() -> None:
    async with Stubs(free_address()) as client, asyncio.timeout(60):
        with pytest.raises(aio.AioRpcError) as caught:
            await client.status.GetBatch(s.GetBatchRequest())
    assert details_of(caught.value) == NOTHING


def test_retry_delay_of_zero_is_not_a_missing_one() -> None:
    assert details_of(error_of(retry_in(0))).retry_after_s == 0.0
    assert details_of(error_of(INFO)).retry_after_s is None


def test_details_are_found_among_others_in_any_order() -> None:
    foreign = AnyMessage(type_url="type.googleapis.com/some.Other", value=b"\x08\x01")
    bad = BadRequest(field_violations=[BadRequest.FieldViolation(field="f")])
    details = details_of(error_of(foreign, retry_in(2), bad, INFO))
    assert details == ErrorDetails(
        reason="BATCH_NOT_FOUND", metadata={"batch_id": "b"}, retry_after_s=2.0
    )


def test_details_are_found_beside_other_trailing_metadata() -> None:
    status = Status(details=[packed(INFO)]).SerializeToString()
    error = error_with(("x-proxy", "one"), ("x-proxy-bin", b"\xff"), (KEY, status))
    assert details_of(error).reason == "BATCH_NOT_FOUND"


@pytest.mark.parametrize(
    "error",
    [
        error_with(),
        error_with(("x-proxy", "one"), ("x-proxy-bin", b"\xff")),
        error_with((KEY, b"")),
        error_with((KEY, b"\xff\xff\xff")),
        error_with((KEY, b"<html>502 Bad Gateway</html>")),
        error_with((KEY, "text")),
        error_with((KEY, Status(code=14, message="gone").SerializeToString())),
        error_of(AnyMessage()),
        error_of(AnyMessage(type_url="no url at all", value=b"\xff")),
        error_of(AnyMessage(type_url="type.googleapis.com/some.Other", value=b"\xff")),
        error_of(BadRequest()),
    ],
    ids=[
        *("no_metadata", "other_keys", "empty", "garbled", "html", "text"),
        *("no_details", "empty_detail", "no_url", "unknown_detail", "other_detail"),
    ],
)
def test_error_without_stagecast_details_has_none(error: aio.AioRpcError) -> None:
    assert details_of(error) == NOTHING


@given(value=st.binary(max_size=64))
def test_any_trailing_metadata_is_read_without_an_error(value: bytes) -> None:
    assert isinstance(details_of(error_with((KEY, value))), ErrorDetails)


@pytest.mark.parametrize("name", ["ErrorInfo", "RetryInfo"])
def test_garbled_detail_is_ignored(name: str) -> None:
    garbled = AnyMessage(type_url=f"type.googleapis.com/google.rpc.{name}", value=b"\xff\xff")
    assert details_of(error_of(garbled)) == NOTHING


def test_huge_delay_does_not_raise() -> None:
    assert details_of(error_of(INFO, retry_in(2**62))).reason == "BATCH_NOT_FOUND"


def test_delay_is_never_negative() -> None:
    retry_after_s = details_of(error_of(retry_in(-5))).retry_after_s
    assert retry_after_s is None or retry_after_s >= 0


def test_reason_of_another_domain_is_ignored() -> None:
    foreign = ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain="googleapis.com")
    assert details_of(error_of(foreign)).reason == ""
