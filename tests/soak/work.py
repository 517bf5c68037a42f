"""The load of a run: attempts, reports, heartbeats, controls, and bad requests."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client import details_of
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.corpus import BUGS, bad_requests, methods, send
from tests.watches.pipeline import Pipeline, retrying

_WORKERS = 4
_STALL_AFTER = Duration(seconds=1)  # so that documents stall while a server is frozen
_UNUSED_DATASET = str(UUID(int=7))  # for bad requests, which must not change other datasets
_WITHIN_S = 5.0
_REFUSED = pb.DocumentReport(document_id="unknown", stage=r.STAGE_PARSING)
# Codes that the client itself sets when no answer arrives.
_UNANSWERED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

# The revision, document and stage of each report.
Acknowledged = Sequence[tuple[int, str, r.Stage.ValueType]]


class Work(Pipeline):
    """A batch whose documents go through all stages once in each round."""

    async def begin(self, documents: int) -> None:
        """Create the batch."""
        await self.create(
            documents,
            more_documents_follow=True,
            stall_after=_STALL_AFTER,
            dataset_name="soak",
        )

    async def round(self, number: int, rng: random.Random) -> None:
        """Start another attempt at every document, and complete it."""
        shares = [self.document_ids[n::_WORKERS] for n in range(_WORKERS)]
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(self._one_round(share, number, random.Random(rng.random())))

    async def _one_round(self, share: list[str], number: int, rng: random.Random) -> None:
        for document_id in share if number else ():
            await retrying(partial(self.start, document_id, f"worker-{number}"))
        await self._heartbeat(share)
        for document_id in rng.sample(share, len(share) // 3):
            await self._control(document_id)
        await self.work(share, rng)

    async def _heartbeat(self, share: list[str]) -> None:
        request = pb.HeartbeatRequest(
            **self._name(), documents=[pb.HeartbeatDocument(document_id=d) for d in share]
        )
        await retrying(lambda: self.client.reports.Heartbeat(request))

    async def _control(self, document_id: str) -> None:
        """Pause, resume, stop and retry a document."""
        name = self._name() | {"document_id": document_id}
        await self._order("Pause", cs.PauseRequest(**name))
        await self._report_until_known(
            [pb.DocumentReport(document_id=document_id, stage=r.STAGE_PARSING)]
        )
        await self._order("Resume", cs.ResumeRequest(**name))
        await self._order("Stop", cs.StopRequest(**name))
        await self._order("Retry", cs.RetryRequest(**name))
        await self._share(document_id)

    async def _share(self, document_id: str) -> None:
        """Let several workers want a pending document, of which one gets it."""
        wanting = (self._take(document_id, f"sharer-{number}") for number in range(3))
        assert sum(await asyncio.gather(*wanting)) == 1

    async def _take(self, document_id: str, worker: str) -> bool:
        """Return whether a worker got a document that may be another's."""
        try:
            await retrying(partial(self.start, document_id, worker, only_if_pending=True))
        except aio.AioRpcError as error:
            if details_of(error).reason != "DOCUMENT_TAKEN":
                raise
            return False
        return True

    async def _report_until_known(self, reports: list[pb.DocumentReport]) -> None:
        """Report all or none, or beside a report that is refused, which must affect no other."""
        if len(reports) % 2:
            await super()._report_until_known(reports)
            return
        together = partial(self.report, *reports, _REFUSED, allow_partial=True)
        response = await retrying(together)
        *outcomes, last = [result.outcome for result in response.results]
        assert last == pb.REPORT_OUTCOME_REFUSED
        assert pb.REPORT_OUTCOME_REFUSED not in outcomes

    async def _order(self, rpc: str, request: Any) -> None:
        await retrying(lambda: getattr(self.client.controls, rpc)(request, wait_for_ready=True))

    def _name(self) -> dict[str, str]:
        return {"dataset_id": self.dataset_id, "batch_id": self.batch_id}

    @staticmethod
    def check_log(log: Sequence[r.Transition], acknowledged: Acknowledged) -> None:
        """Check that the log has every acknowledged report once, and no gap."""
        assert [transition.revision for transition in log] == list(range(1, len(log) + 1))
        revisions = [revision for revision, _, _ in acknowledged]
        assert len(set(revisions)) == len(revisions), "a revision was acknowledged twice"
        for revision, document_id, stage in acknowledged:
            document = log[revision - 1].document
            assert (document.document_id, document.stage) == (document_id, stage)

    async def history(self) -> list[r.Transition]:
        """Return the whole log."""
        log: list[r.Transition] = []
        token = ""
        while True:
            request = ss.ListTransitionsRequest(**self._name(), page_size=1_000, page_token=token)
            page = await retrying(partial(self.client.status.ListTransitions, request))
            log += page.transitions
            token = page.next_page_token
            if not token:
                return log


async def send_bad_requests(
    address: str, key: str, requests: int, rng: random.Random
) -> Counter[str]:
    """Send bad requests to random RPCs, some without the key; return how many each answered.

    Raises:
        AssertionError: an answer shows a bug.
    """
    known = methods()
    sound = ss.GetDocumentRequest(dataset_id=_UNUSED_DATASET, batch_id="b", document_id="d")
    answered: Counter[str] = Counter()
    async with aio.insecure_channel(address) as channel:
        for _ in range(requests):
            path = rng.choice(list(known))
            corpus = list(bad_requests(known[path], sound=sound, rng=rng))
            used_key = rng.choice(("", key, key, key))
            error = await send(channel, path, rng.choice(corpus), _WITHIN_S, used_key)
            code = None if error is None else error.code()
            assert code not in BUGS, error
            answered[path] += code not in _UNANSWERED
    return answered
