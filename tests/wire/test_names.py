"""The ids in a request."""

from __future__ import annotations

import pytest

from stagecast import wire
from stagecast.errors import FieldInvalid
from stagecast.v1 import report_service_pb2 as rs


def test_first_invalid_field_is_reported() -> None:
    request = rs.ReportRequest(dataset_id="x", batch_id="..", reports=[])
    with pytest.raises(FieldInvalid) as caught:
        wire.batch_name(request)
    assert caught.value.field == "dataset_id"
