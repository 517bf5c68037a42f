"""A corpus of bad input for every RPC: no request causes an internal error."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest
from grpc import aio

from stagecast.app import App
from stagecast.v1 import status_service_pb2 as ss
from tests.corpus import BUGS, bad_requests, methods, send
from tests.rpc.calls import BATCH, Calls


@pytest.mark.parametrize("path", methods())
async def test_no_bad_input_causes_an_internal_error(
    server: App, calls: Calls, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    await calls.create("a", "b", more_documents_follow=True)
    sound = ss.GetDocumentRequest(dataset_id=calls.dataset_id, batch_id=BATCH, document_id="a")
    corpus = list(bad_requests(methods()[path], sound=sound, rng=random.Random(1)))
    assert len(corpus) >= 40
    together = asyncio.Semaphore(50)

    async def answer(request: bytes) -> aio.AioRpcError | None:
        async with together:
            return await send(channel, path, request, 0.5 if "Wait" in path else 30)

    async with aio.insecure_channel(server.grpc_address) as channel:
        errors = await asyncio.gather(*map(answer, corpus))
        for request, error in zip(corpus, errors, strict=True):
            if error is not None:
                assert error.code() not in BUGS, (request[:200], error.details())
                assert "Traceback" not in (error.details() or "")
                assert "\n" not in (error.details() or "")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
