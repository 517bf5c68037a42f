"""Messages are written as canonical protobuf JSON, as the library does it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from stagecast.rpc.http.messages import dump
from stagecast.v1 import control_service_pb2, report_service_pb2, status_service_pb2

NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: st.text(max_size=20),
}

ANSWERS = [
    method.output_type
    for file in (status_service_pb2, report_service_pb2, control_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def value(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type:
        return st.sampled_from([*field.enum_type.values_by_number, 99])
    return message(field.message_type) if field.message_type else NUMBERS[field.cpp_type]


def fields(kind: Any) -> dict[str, st.SearchStrategy[Any]]:
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.fields:
        if field.message_type and field.message_type.GetOptions().map_entry:
            texts = NUMBERS[FieldDescriptor.CPPTYPE_STRING]
            strategies[field.name] = st.dictionaries(texts, texts, max_size=2)
        elif field.is_repeated:
            strategies[field.name] = st.lists(value(field), max_size=2)
        else:
            strategies[field.name] = st.none() | value(field)
    return strategies


def message(kind: Any) -> st.SearchStrategy[Message]:
    """Return any message of a kind."""
    if kind.full_name == Timestamp.DESCRIPTOR.full_name:
        nanos = st.sampled_from([0, 1_000, 5_000_000, 999_999_999])
        return st.builds(Timestamp, seconds=st.integers(0, 4_000_000_000), nanos=nanos)
    if kind.full_name == Duration.DESCRIPTOR.full_name:
        return st.builds(Duration, seconds=st.integers(0, 10_000), nanos=st.sampled_from([0, 10]))
    return st.fixed_dictionaries(fields(kind)).map(lambda values: GetMessageClass(kind)(**values))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: str(kind.name))
@settings(max_examples=20)
@given(data=st.data())
def test_json_is_that_of_the_library(kind: Any, data: st.DataObject) -> None:
    answer = data.draw(message(kind))
    assert json.loads(dump(answer)) == json_format.MessageToDict(answer)
