"""Random requests: no answer is INTERNAL or UNKNOWN, which are bugs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stagecast.app import App
from stagecast.v1 import resources_pb2 as r
from tests.corpus import methods
from tests.grpc_calls import unary_stream, unary_unary
from tests.rpc.calls import Calls, counters, failure, stage

DATASET_ID = "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"

# From the descriptors, so that new RPCs are included.
RPCS = {
    path.rpartition("/")[2]: (path, GetMessageClass(method.input_type))
    for path, method in methods().items()
}

_TIMEOUT_S = {"WaitBatch": 0.04}  # most of its calls would not end

_BUGS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)

# Mostly existing ids, so that most messages pass the checks of the ids.
_KNOWN = {
    "dataset_id": [DATASET_ID] * 12 + [DATASET_ID.upper(), ""],
    "dataset_ids": [DATASET_ID, DATASET_ID.upper(), "00000000-1111-4222-8333-444444444444"],
    "batch_id": ["b1"] * 6 + ["b2"] * 4 + ["", "b3"],
    "document_id": ["a", "b", "c", "", "new"],
    "worker": ["w1", "w2"],
    "reason": ["PARSE_FAILED", "X"],
    "request_id": ["", "r1"],
}
_TEXTS = st.text(max_size=300)
_EDGES = [0, 1, -1, 2, 6, 7, 100, 2**31 - 1, -(2**31)]
_INTEGERS = {
    FieldDescriptor.TYPE_INT32: st.sampled_from(_EDGES) | st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(0, 6) | st.sampled_from(_EDGES),
    FieldDescriptor.TYPE_INT64: (
        st.integers(0, 100)
        | st.sampled_from([2**53, 2**53 - 1, 2**63 - 1, -(2**63)])
        | st.integers(-(2**63), 2**63 - 1)
    ),
}


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        assert field.message_type is not None
        return messages(field.message_type)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_STRING:
        known = _KNOWN.get(field.name)
        return st.sampled_from(known) | _TEXTS if known else _TEXTS
    return _INTEGERS[field.type]


def _contents(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return st.dictionaries(_values(key), _values(value), max_size=3)
    if field.is_repeated:
        return st.lists(_values(field), max_size=4)
    return _values(field)


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Build messages of a type with any values in any fields; ids are always set."""
    ids = {field.name for field in descriptor.fields} & {"dataset_id", "batch_id", "document_id"}
    fields = {field.name: _contents(field) for field in descriptor.fields}
    return st.fixed_dictionaries(
        {name: fields[name] for name in ids},
        optional={name: value for name, value in fields.items() if name not in ids},
    ).map(lambda values: GetMessageClass(descriptor)(**values))


@pytest.fixture
async def channel(server: App, calls: Calls) -> Any:
    """A channel to a server with the batches `b1` and `b2`, with documents in many states."""
    mine = Calls(calls.client, DATASET_ID)
    await mine.create("a", "b", "c", more_documents_follow=True)
    await mine.report(failure("b"), counters("c", 1, 2))
    await mine.create("a", "b", batch_id="b2")
    await mine.report(stage("a", r.STAGE_COMPLETED), failure("b"), batch_id="b2")
    async with aio.insecure_channel(server.grpc_address) as channel:
        yield channel


async def _answer(
    channel: aio.Channel, rpc: str, request: bytes, *, timeout_s: float = 30
) -> grpc.StatusCode:
    """Return the status of a call with these bytes; a watch is cancelled after one message."""
    path, _ = RPCS[rpc]
    try:
        async with asyncio.timeout(60):
            if rpc.startswith("Watch"):
                watch = unary_stream(channel, path)(request)
                await watch.read()
                watch.cancel()
            else:
                await unary_unary(channel, path)(request, timeout=timeout_s)
    except aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.slow
@pytest.mark.parametrize("rpc", RPCS)
@settings(
    max_examples=150,
    deadline=None,
    # One server answers all examples; each sees the effects of those before it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_no_message_causes_an_internal_error(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture, rpc: str, data: st.DataObject
) -> None:
    # The stub's type includes another implementation.
    request = data.draw(messages(cast("Descriptor", RPCS[rpc][1].DESCRIPTOR)))
    timeout_s = _TIMEOUT_S.get(rpc, 30)
    answer = await _answer(channel, rpc, request.SerializeToString(), timeout_s=timeout_s)
    assert answer not in _BUGS
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


MALFORMED = {
    "no_message": b"\xff\xff\xff",
    "cut_off": b"\x0a\x24too short",
    "no_utf8": b"\x0a\x02\xff\xfe",
    "lone_surrogate": b"\x0a\x03\xed\xa0\x80",
}


@pytest.mark.parametrize("rpc", RPCS)
async def test_malformed_bytes_are_an_invalid_argument(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture, rpc: str, subtests: pytest.Subtests
) -> None:
    for name, request in MALFORMED.items():
        with subtests.test(name):
            assert await _answer(channel, rpc, request) is grpc.StatusCode.INVALID_ARGUMENT
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
