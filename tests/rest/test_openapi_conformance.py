"""Requests generated from `/openapi.json` get the responses that it describes.

schemathesis makes valid and invalid requests, the same in every run; many on Dify's path are for an
existing batch.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from tests.access import make_key
from tests.rpc.calls import BATCH, Calls, counters, failure, stage
from tests.rpc.commands import Command

pytestmark = pytest.mark.slow

# Fixed, since the requests depend on them.
DATASET_IDS = (
    "0a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11",
    "1b2d1e2f-9b4c-4a1f-8e4d-4a2a7a1d3c22",
)
EMPTY_BATCH = "b0"

SETTINGS = f"""
[dictionaries]
datasets = {{ values = {json.dumps(DATASET_IDS)} }}
batches = {{ values = ["{BATCH}", "{BATCH}", "{EMPTY_BATCH}"] }}

[parameters]
"path.dataset_id" = {{ dictionary = "datasets", probability = 0.7 }}
"path.batch" = {{ dictionary = "batches", probability = 0.7 }}

[generation]
deterministic = true
max-examples = 40
"""


async def ingest(client: Stubs) -> None:
    """Create a document in each stage, a failed one, and a batch without documents."""
    stages = {name: reached for name, reached in r.Stage.items() if reached}
    for dataset_id in DATASET_IDS:
        calls = Calls(client, dataset_id)
        await calls.create(batch_id=EMPTY_BATCH)
        await calls.create(*stages, "failed")
        await calls.report(
            *(stage(name, reached) for name, reached in stages.items()),
            counters("STAGE_INDEXING", 3, 12),
            failure("failed"),
        )


def answered(report: Path) -> set[tuple[str, int]]:
    """Return the last segment of each requested path, with each status of its responses."""
    return {
        (urlsplit(entry["request"]["url"]).path.rpartition("/")[2], entry["response"]["status"])
        for entry in json.loads(report.read_text())["log"]["entries"]
    }


@pytest.mark.parametrize("keys", ["off", "right", "missing", "wrong"])
async def test_every_answer_is_as_the_document_says(
    server: App, client: Stubs, config: Config, tmp_path: Path, keys: str
) -> None:
    await ingest(client)
    options: list[str] = []
    if keys != "off":
        key = await make_key(config.db)
        await until_keys_are_required(server)
        value = {"right": key, "wrong": f"{key}x"}.get(keys)
        options = ["--header", f"Authorization: Bearer {value}"] if value else []
    if keys == "off":
        # Until there is a key, requests without credentials are not refused; the document
        # describes the server with keys.
        options += ["--exclude-checks", "ignored_auth,negative_data_rejection"]
    settings, report = tmp_path / "schemathesis.toml", tmp_path / "report.har"
    settings.write_text(SETTINGS)
    schemathesis = Command("schemathesis", "--config-file", str(settings), "run", home=tmp_path)
    ended = await schemathesis.run(
        f"http://{server.http_address}/openapi.json", "--report-har-path", str(report), *options
    )
    assert ended.code == 0, ended.out + ended.err
    # The requests have covered the important responses.
    responses = answered(report)
    if keys in ("off", "right"):
        assert responses >= {
            ("indexing-status", 200),
            ("indexing-status", 404),
            ("status", 200),
            ("status", 422),
        }
    else:
        assert responses >= {("indexing-status", 401), ("status", 401)}
    assert not [status for _, status in responses if status >= 500]


async def until_keys_are_required(server: App) -> None:
    """Wait until the server has noticed the new key."""
    async with httpx.AsyncClient(timeout=60) as http, asyncio.timeout(60):
        while (await http.get(f"http://{server.http_address}/api/v1/datasets/status")).is_success:
            pass
