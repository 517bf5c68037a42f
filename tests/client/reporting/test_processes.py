"""Reporters in programs: their end, forks, other processes, and kills."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stagecast
from tests.client.reporting.background import Background, until
from tests.process import environment

_HEAD = """
import os, signal, sys, threading, time
import stagecast
name = sys.argv[1]

def work(doc):
    with doc:
        doc.parsing()
        for chunk in doc.track(range(5)):
            pass
"""


def start(program: str, server: Background, *arguments: str) -> subprocess.Popen[str]:
    """Start a program."""
    return subprocess.Popen(
        [sys.executable, "-Werror", "-c", _HEAD + program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(STAGECAST_GRPC=server.address),
    )


def run(program: str, server: Background, *arguments: str) -> tuple[str, str]:
    """Run a program to its end, and return what it prints, and to stderr."""
    with start(program, server, *arguments) as process:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return output, errors


_WORK = """
with stagecast.batch("d", ["a", "b"], batch_id=name) as batch:
    for doc in batch.pending():
        work(doc)
"""


# The end of the interpreter.


def test_what_waits_is_sent_at_the_end_of_the_interpreter(
    running: Background, client: stagecast.Client
) -> None:
    assert run(_WORK, running, "b") == ("", "")
    assert client.get_batch("d", "b").state == "SUCCEEDED"


def test_thread_that_outlives_the_main_thread_reports_all(
    running: Background, client: stagecast.Client
) -> None:
    program = """
def pipeline():
    main = threading.main_thread()
    main.join()
    with stagecast.batch("d", ["a", "b"], batch_id=name) as batch:
        for doc in batch.pending():
            work(doc)
threading.Thread(target=pipeline).start()
"""
    assert run(program, running, "b") == ("", "")
    assert client.get_batch("d", "b").state == "SUCCEEDED"


def test_program_that_fails_has_reported_that(
    running: Background, client: stagecast.Client
) -> None:
    program = """
with stagecast.batch("d", ["a", "b"], batch_id=name) as batch:
    for doc in batch.pending():
        with doc:
            raise OSError("no disk")
"""
    with start(program, running, "b") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.endswith("OSError: no disk\n")
    [failed, pending] = client.list_documents("d", "b")
    assert str(failed.error) == "OS_ERROR: no disk"
    assert pending.state == "PENDING"


@pytest.mark.slow
def test_program_without_any_server_ends_soon_and_says_what_was_lost(absent: Background) -> None:
    program = f"{_WORK}\nprint(time.monotonic(), flush=True)"
    output, errors = run(program, absent, "b")
    took_s = time.monotonic() - float(output)
    assert 4 < took_s < 60  # five, and whatever the machine needs
    assert errors.startswith("reports of batch b could not be delivered: cannot reach")
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_several_reporters_share_the_time_at_the_end(absent: Background) -> None:
    program = """
reporters = [stagecast.Reporter(f"127.0.0.1:{port}") for port in (1, 2, 3, 4)]
for reporter in reporters:
    with reporter.batch("d", ["a"]) as batch:
        pass
import atexit
from stagecast.client.reporting import engine
print(time.monotonic(), flush=True)
@atexit.register
def limit():
    pass
real = engine.Engine.finish
def finish(self, deadline):
    real(self, deadline)
    print(deadline)
engine.Engine.finish = finish
"""
    output, _ = run(program, absent, "b")
    deadlines = output.split()[1:]
    assert len(deadlines) == 4
    assert len(set(deadlines)) == 1


# Forks, and other processes.


def test_forked_process_begins_anew_and_joins_the_attempt(
    running: Background, client: stagecast.Client
) -> None:
    program = """
with stagecast.batch("d", ["a", "b", "c"], batch_id=name) as batch:
    first, second, third = batch.pending()
    work(first)
    batch.flush(60)
    with second:
        second.parsing()
        for number in range(4):
            if os.fork() == 0:
                second.progress(number + 1, 5)
                done = batch.flush(60)
                print(done, batch.stats.delivered, flush=True)
                os._exit(0)
            os.wait()
    work(third)
assert batch.flush(60)
print(batch.stats)
"""
    output, errors = run(program, running, "b")
    assert errors == ""
    *children, parent = output.splitlines()
    assert children == ["True 1"] * 4
    assert parent.endswith(" delivered, 0 waiting, 0 refused, 0 dropped")
    actual = client.get_document("d", "b", "b")
    assert (actual.attempt, actual.state) == (1, "SUCCEEDED")
    assert actual.progress.completed_segments == 4
    assert client.get_batch("d", "b").state == "SUCCEEDED"


def test_forked_process_leaves_the_connection_of_its_parent_alone(
    running: Background,
) -> None:
    program = """
import gc, weakref
reporter = stagecast.Reporter()
with reporter.batch("d", ["a"], batch_id=name) as batch:
    for doc in batch.pending():
        work(doc)
    batch.flush(60)
    sender = weakref.ref(reporter._engine._sender)
    if os.fork() == 0:
        gc.collect()
        print(sender() is not reporter._engine._sender, sender()._channel is not None, flush=True)
        os._exit(0)
    os.wait()
"""
    assert run(program, running, "b") == ("True True\n", "")


def test_pool_of_forked_processes_works_on_the_documents(
    running: Background, client: stagecast.Client
) -> None:
    program = """
import multiprocessing
def child(token):
    with stagecast.attach(token) as doc:
        doc.parsing()
        for chunk in doc.track(range(5)):
            pass
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with stagecast.batch("d", [f"doc-{n}" for n in range(6)], batch_id=name) as batch:
        processes = [
            context.Process(target=child, args=[doc.token]) for doc in batch.pending()
        ]
        for process in processes: process.start()
        for process in processes: process.join()
"""
    assert run(program, running, "b") == ("", "")
    actual = client.wait("d", "b", timeout=60)
    assert actual.counts.succeeded == 6
    workers = {document.worker for document in client.list_documents("d", "b")}
    assert len(workers) == 6


def test_spawned_process_takes_up_a_document_by_its_token(
    running: Background, client: stagecast.Client, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import multiprocessing, sys
import stagecast

def child(token):
    with stagecast.attach(token) as doc:
        doc.parsing()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with stagecast.batch("d", ["a"], batch_id="b") as batch:
        for doc in batch.pending():
            process = context.Process(target=child, args=[doc.token])
            process.start()
            process.join()
            assert process.exitcode == 0
"""
    )
    subprocess.run(
        [sys.executable, script],
        check=True,
        timeout=120,
        env=environment(STAGECAST_GRPC=running.address),
    )
    assert client.wait("d", "b", timeout=60).counts.succeeded == 1


def test_token_of_an_open_document_joins_its_attempt(
    running: Background, reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    other = stagecast.Reporter(running.address)
    with reporter.batch("d", ["a"]) as batch:
        [doc] = batch.pending()
        with doc:
            doc.indexing(total=9)
            assert batch.flush(60)
            helper = other.attach(doc.token)
            assert helper.id == "a"
            helper.progress(4)
            until(lambda: client.get_document("d", batch.id, "a").progress.completed_segments == 4)
            assert not doc.cancelled
    assert batch.flush(60)
    actual = client.get_document("d", batch.id, "a")
    assert (actual.attempt, actual.state) == (1, "SUCCEEDED")
    other.close()


def test_token_has_any_name_of_a_file_and_nothing_else(running: Background) -> None:
    reporter = stagecast.Reporter(running.address)
    doc = reporter.batch("d").document(os.fsdecode(b"\xff.md"))
    assert reporter.attach(doc.token).id == doc.id
    for fields in (
        {"document_id": 5},
        {"document_id": "a", "attempt": "x"},
        {"document_id": "a", "labels": 3},
    ):
        token = {"dataset_id": "d", "batch_id": "b"} | fields
        text = base64.urlsafe_b64encode(json.dumps(token).encode()).decode()
        with pytest.raises(ValueError, match="invalid token"):
            reporter.attach(text)
    reporter._engine.finish(0)


def test_reporter_that_is_made_during_a_fork_by_another_thread_can_be_used(
    running: Background,
) -> None:
    from stagecast.client.reporting import engine as module

    module._hold_all()
    reporter = stagecast.Reporter(running.address)
    module._release_all()
    with reporter.batch("d", ["a"]) as batch, batch.document("a"):
        pass
    assert batch.flush(60)
    reporter._engine.finish(0)


def test_token_names_no_key_and_must_be_whole(running: Background) -> None:
    reporter = stagecast.Reporter(running.address, key="secret")
    doc = reporter.batch("d").document(Path("Ä b.md"))
    other = stagecast.Reporter(running.address)
    assert other.attach(doc.token).id == "Ä b.md"
    assert b"secret" not in base64.urlsafe_b64decode(doc.token + "===")
    for wrong in ("", "abc", doc.token[:-9]):
        with pytest.raises(ValueError, match="invalid token: it is not the text of"):
            other.attach(wrong)
    with pytest.raises(TypeError, match="invalid token None"):
        other.attach(None)  # type: ignore[arg-type]  # on purpose
    reporter._engine.finish(0)
    other._engine.finish(0)


# The spool.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_spool_survives_the_end_of_the_process(
    number: signal.Signals, absent: Background, client: stagecast.Client, tmp_path: Path
) -> None:
    spool = str(tmp_path / "reports.spool")
    program = """
with stagecast.batch("d", ["a", "b", "c"], batch_id=name, spool=sys.argv[2]) as batch:
    documents = batch.pending()
    for doc in documents:
        if doc.id == "c":
            break
        work(doc)
    with doc:
        doc.parsing()
        print("ready", flush=True)
        signal.pause()
"""
    with start(program, absent, "b", spool) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.wait(60)
    before_s = time.time()
    with Path(spool).open("ab") as torn:
        torn.write(b'{"n":99,"k":"rep')
    absent.start()
    again = """
with stagecast.batch("d", ["a", "b", "c"], batch_id=name, spool=sys.argv[2]) as batch:
    batch.flush(60)
    print([doc.id for doc in batch.pending() if work(doc) is None])
"""
    output, errors = run(again, absent, "b", spool)
    assert errors == ""
    assert output == "['c']\n"
    assert client.wait("d", "b", timeout=60).counts.succeeded == 3
    assert Path(spool).stat().st_size == 0
    [ended] = [e for e in client.history("d", "b", "a") if e.kind == "SUCCEEDED"]
    assert ended.event_time is not None
    assert ended.event_time.timestamp() < before_s


@pytest.mark.slow
def test_spool_sends_what_an_exiting_process_could_not(
    absent: Background, client: stagecast.Client, tmp_path: Path
) -> None:
    spool = str(tmp_path / "reports.spool")
    program = _WORK.replace("batch_id=name", "batch_id=name, spool=sys.argv[2]")
    assert run(program, absent, "b", spool) == ("", "")
    assert Path(spool).stat().st_size > 0
    absent.start()
    with stagecast.Reporter(absent.address, spool=spool) as reporter:
        until(lambda: Path(spool).stat().st_size == 0)
    assert client.wait("d", "b", timeout=60).counts.succeeded == 2
    reporter._engine.finish(0)


def test_processes_with_one_spool_have_a_file_each(
    absent: Background, client: stagecast.Client, tmp_path: Path
) -> None:
    spool = tmp_path / "reports.spool"
    first = stagecast.Reporter(absent.address, spool=spool)
    program = _WORK.replace("batch_id=name", "batch_id=name, spool=sys.argv[2]")
    killed = program + "\nos.kill(os.getpid(), signal.SIGKILL)"
    with start(killed, absent, "b", str(spool)) as process:
        process.wait(60)
    assert spool.stat().st_size <= 1
    assert Path(f"{spool}.1").stat().st_size > 100
    absent.start()
    first._engine.finish(0)
    os.close(first._engine._spool._file or -1)  # type: ignore[union-attr]
    second = stagecast.Reporter(absent.address, spool=spool)
    until(lambda: spool.stat().st_size == 0)
    assert Path(f"{spool}.1").stat().st_size == 0
    assert client.wait("d", "b", timeout=60).counts.succeeded == 2
    second._engine.finish(0)


def test_spool_forgets_what_can_never_be_delivered(
    running: Background, client: stagecast.Client, tmp_path: Path
) -> None:
    spool = tmp_path / "reports.spool"
    reporter = stagecast.Reporter(running.address, spool=spool)
    with reporter.batch("d", ["a"], batch_id="b") as batch:
        [doc] = batch.pending()
        with doc:
            doc.parsing()
            assert batch.flush(60)
            client.delete_batch("d", "b")
            doc.splitting()
    assert not batch.flush(60)
    assert batch.stats.dropped == 2
    assert spool.stat().st_size == 0
    reporter._engine.finish(0)


def test_file_of_something_else_is_no_spool_and_left_alone(
    running: Background, client: stagecast.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("a,b\n1,2\n", '{"id": 1}\n'):
        path = tmp_path / "data"
        path.write_text(text)
        reporter = stagecast.Reporter(running.address, spool=path)
        with reporter.batch("d", ["a"]) as batch, batch.document("a"):
            pass
        assert batch.flush(60)
        assert path.read_text() == text
        assert "is a file of something else; use another path" in caplog.messages[-1]
        reporter._engine.finish(0)


def test_spool_of_another_release_does_not_stop_the_work(
    running: Background, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool"
    path.write_text('{"n":1,"k":"batch"}\n{"n":2,"k":"open","b":1}\n{"n":3,"k":"new","b":9}\n')
    reporter = stagecast.Reporter(running.address, spool=path)
    with reporter.batch("d", ["a"]) as batch, batch.document("a"):
        pass
    assert batch.flush(60)
    assert batch.stats.delivered == 1
    [warning] = caplog.messages
    assert "cannot be read; of another release?" in warning
    reporter._engine.finish(0)


def test_spool_that_cannot_be_written_does_not_stop_the_work(
    running: Background, client: stagecast.Client, tmp_path: Path
) -> None:
    program = _WORK.replace("batch_id=name", "batch_id=name, spool=sys.argv[2]")
    _, errors = run(program, running, "b", str(tmp_path / "missing" / "spool"))
    assert errors.startswith("reports cannot be kept in")
    assert client.wait("d", "b", timeout=60).counts.succeeded == 2
