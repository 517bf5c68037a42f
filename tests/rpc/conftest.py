"""Fixtures of the gRPC tests."""

from __future__ import annotations

import pytest

from stagecast.client import Stubs
from tests.rpc.calls import Calls
from tests.watches.pipeline import Pipeline


@pytest.fixture
def calls(client: Stubs, dataset_id: str) -> Calls:
    """Calls on a new dataset."""
    return Calls(client, dataset_id)


@pytest.fixture
def pipeline(client: Stubs, dataset_id: str) -> Pipeline:
    """A new batch, to be created by the test."""
    return Pipeline(client, dataset_id)
