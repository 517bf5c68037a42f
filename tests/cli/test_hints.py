"""The commands that the demo suggests can be run unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stagecast.cli import hints
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
    reported = hints.suggest_commands(
        BATCH,
        grpc="127.0.0.1:1",
        credentials=Credentials(),
        db=Path("/tmp/x.db"),  # noqa: S108 - never opened
    )
    assert f"  {typed} serve --db /tmp/x.db\n" in reported
    assert f"  {typed} watch {BATCH.dataset_id} b1\n" in reported


def test_program_on_the_path_is_named_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "stagecast"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    reported = hints.suggest_commands(
        BATCH,
        grpc="127.0.0.1:1",
        credentials=Credentials(),
        db=Path("/tmp/x.db"),  # noqa: S108 - never opened
    )
    assert "  stagecast serve --db /tmp/x.db\n" in reported


def test_commands_have_the_credentials_but_never_show_the_key() -> None:
    credentials = Credentials(
        key="secret", ca=Path("my ca.pem"), cert=Path("c.pem"), cert_key=Path("k.pem")
    )
    reported = hints.suggest_commands(BATCH, grpc="127.0.0.1:1", credentials=credentials, db=None)
    ours = "--ca 'my ca.pem' --cert c.pem --cert-key k.pem --key \"$STAGECAST_KEY\""
    assert f"watch {BATCH.dataset_id} b1 --grpc 127.0.0.1:1 {ours}\n" in reported
    theirs = (
        "-cacert 'my ca.pem' -cert c.pem -key k.pem -H \"authorization: Bearer $STAGECAST_KEY\""
    )
    assert f"grpcurl {theirs} " in reported
    assert "secret" not in reported
    assert " --tls\n" in hints.suggest_commands(
        BATCH, grpc="h:1", credentials=Credentials(tls=True), db=None
    )


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
    reported = hints.clean_up(Path(os.fsdecode(b"/nowhere/" + name))).rpartition("rm -r ")[2]
    assert "\n" not in reported
    assert reported.isprintable() or "\u3000" in reported
    shell = subprocess.run(["bash", "-c", f"printf %s {reported}"], capture_output=True, check=True)
    assert shell.stdout == b"/nowhere/" + name
