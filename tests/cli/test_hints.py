"""The commands that the demo suggests can be run unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stagecast.cli import hints
from stagecast.cli.params import DEFAULTS
from stagecast.cli.target import Credentials
from stagecast.v1 import resources_pb2 as r

BATCH = r.Batch(dataset_id="7c9e6679-7425-40de-944b-e07fc1f90ae7", batch_id="b1")


@pytest.mark.parametrize(
    ("started", "typed"),
    [
        ("/some where/bin/stagecast", "'/some where/bin/stagecast'"),
        ("/lib/stagecast/__main__.py", f"{sys.executable} -m stagecast"),
    ],
)
def test_program_outside_the_path_is_named_by_its_location(
    monkeypatch: pytest.MonkeyPatch, started: str, typed: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [started])
    assert hints.serve(Path("x.db")) == f"{typed} serve --db x.db"
    watch = hints.watch("my set", BATCH, DEFAULTS.grpc, Credentials())
    assert watch == f"{typed} watch 'my set' b1"


def test_program_on_the_path_is_named_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "stagecast"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hints.serve(Path("x.db")) == "stagecast serve --db x.db"


def test_commands_have_the_credentials_but_never_show_the_key() -> None:
    credentials = Credentials(
        key="secret", ca=Path("my ca.pem"), cert=Path("c.pem"), cert_key=Path("k.pem")
    )
    watch = hints.watch("demo", BATCH, "127.0.0.1:1", credentials)
    ours = "--ca 'my ca.pem' --cert c.pem --cert-key k.pem --key \"$STAGECAST_KEY\""
    assert watch.endswith(f" watch demo b1 --grpc 127.0.0.1:1 {ours}")
    poll = hints.poll(BATCH, "127.0.0.1:2", credentials)
    key = '-H "authorization: Bearer $STAGECAST_KEY"'
    assert poll.startswith(f"curl --cacert 'my ca.pem' --cert c.pem --key k.pem {key} https://127")
    grpcurl = hints.grpcurl(BATCH, "127.0.0.1:1", credentials)
    assert all(f" -cacert 'my ca.pem' -cert c.pem -key k.pem {key} " in line for line in grpcurl)
    assert not [line for line in (watch, poll, *grpcurl) if "secret" in line]
    assert hints.watch("demo", BATCH, "h:1", Credentials(tls=True)).endswith(" --tls")


@pytest.mark.parametrize(
    "name",
    [
        b"a b",
        b"it's",
        b"two\nlines",
        b"caf\xe9",
        b"back\\slash\n'",
        b"\x1b[2J",
        "報告\u3000書\u202e".encode(),
    ],
)
def test_any_path_is_quoted_for_the_shell(name: bytes) -> None:
    reported = hints.remove(Path(os.fsdecode(b"/nowhere/" + name))).removeprefix("rm -r ")
    assert "\n" not in reported
    assert reported.isprintable() or "\u3000" in reported
    shell = subprocess.run(["bash", "-c", f"printf %s {reported}"], capture_output=True, check=True)
    assert shell.stdout == b"/nowhere/" + name
