"""What a spool restores, decided without a server or another process."""

from __future__ import annotations

from pathlib import Path

from stagecast.client.reporting.options import BatchOptions
from stagecast.client.reporting.outbox import Outbox
from stagecast.client.reporting.queues import BatchQueue, DocumentQueue, Entry, Mode, Takeover
from stagecast.client.reporting.spool import Spool
from stagecast.v1 import resources_pb2 as r


def begin(path: Path) -> tuple[Spool, Outbox]:
    """Return a spool, and an outbox with what an earlier one has left in the file."""
    spool = Spool(str(path))
    outbox = Outbox(journal=spool)
    spool.restore(outbox)
    return spool, outbox


def report(outbox: Outbox) -> None:
    """Report a stage of a document in a new batch."""
    batch = BatchQueue(BatchOptions(dataset_id="d", batch_id="b"), Mode.CREATE)
    document = DocumentQueue(batch, "a", "worker")
    outbox.open(batch)
    outbox.start(document, Takeover.NEVER)
    outbox.put(document, Entry(time_ns=1, stage=r.STAGE_PARSING))


def test_what_was_restored_is_there_once_after_every_further_kill(tmp_path: Path) -> None:
    spool, outbox = begin(tmp_path / "spool")
    report(outbox)
    for _ in range(3):
        spool.leave()  # closes the file, as a kill does
        spool, outbox = begin(tmp_path / "spool")
        [batch] = outbox.waiting
        assert (batch.waiting, len(batch.documents)) == (1, 1)
    spool.leave()


def test_report_after_a_torn_line_is_restored(tmp_path: Path) -> None:
    spool, outbox = begin(tmp_path / "spool")
    report(outbox)
    spool.leave()
    with (tmp_path / "spool").open("ab") as torn:
        torn.write(b'{"n":99,"k":"rep')
    spool = Spool(str(tmp_path / "spool"))  # of a process that reports without restoring
    report(Outbox(journal=spool))
    spool.leave()
    _, outbox = begin(tmp_path / "spool")
    assert [batch.waiting for batch in outbox.waiting] == [1, 1]
