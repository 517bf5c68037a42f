"""Fixtures of the gRPC tests."""

from __future__ import annotations

import pytest

from stagecast.client import Client
from tests.rpc.calls import Calls
from tests.watches.pipeline import Pipeline


@pytest.fixture
def calls(client: Client, dataset_id: str) -> Calls:
    """Calls on a dataset of this test's own."""
    return Calls(client, dataset_id)


@pytest.fixture
def pipeline(client: Client, dataset_id: str) -> Pipeline:
    """A batch of this test's own, once it is created."""
    return Pipeline(client, dataset_id)
