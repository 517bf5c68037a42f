"""A pipeline on the server of this process."""

from __future__ import annotations

import pytest

from stagecast.client import Stubs
from tests.watches.pipeline import Pipeline


@pytest.fixture
def pipeline(client: Stubs, dataset_id: str) -> Pipeline:
    return Pipeline(client, dataset_id)
