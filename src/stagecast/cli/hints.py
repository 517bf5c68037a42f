"""The lines to copy into a shell after the demo."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from stagecast.cli.target import Credentials
from stagecast.config import Config, socket_path
from stagecast.escaping import quote_for_shell
from stagecast.v1 import resources_pb2 as r

_DEFAULTS = Config()


def suggest_commands(batch: r.Batch, *, grpc: str, access: Credentials, db: Path | None) -> str:
    """Return commands that ask for the batch.

    Args:
        batch: what to ask for.
        grpc: the server's address.
        access: how it let this command in.
        db: its file, if the server was part of this command and has ended with it.
    """
    if db is None:
        return "\n".join(["To look further:", "", *_grpcurl(batch, grpc, access)])
    return "\n".join(
        [
            "The server was part of this command and has ended with it.",
            "To look further, start one on its file, and ask it from another terminal:",
            "",
            f"  {_program()} serve --db {_quoted(str(db))}",
            "",
            *_grpcurl(batch, _DEFAULTS.grpc, access),
        ]
    )


def clean_up(directory: Path) -> str:
    """Return what to do when one has seen enough."""
    remove = f"  rm -r {_quoted(str(directory))}"
    return "\n".join(["", "What this command made stays until you remove it:", "", remove])


def _quoted(text: str) -> str:
    """Return a text as a shell takes it from stdout."""
    return quote_for_shell(text, sys.stdout.encoding or "utf-8")


def _program() -> str:
    """Return what to type for this program, wherever it is."""
    started = Path(sys.argv[0])
    if shutil.which("stagecast"):
        return "stagecast"
    if started.name == "stagecast":
        return _quoted(str(started))
    return f"{_quoted(sys.executable)} -m stagecast"


def _program_with(access: Credentials) -> str:
    """Return grpcurl with the options that let it in; the key stays where it does not show."""
    trust = f" -cacert {_quoted(str(access.ca))}" if access.ca else ""
    shown = (
        f" -cert {_quoted(str(access.cert))} -key {_quoted(str(access.cert_key))}"
        if access.cert
        else ""
    )
    plain = " -plaintext" if access.scheme == "http" else ""
    key = ' -H "authorization: Bearer $STAGECAST_KEY"' if access.key else ""
    return f"grpcurl{plain}{trust}{shown}{key}"


def _credentials_options(access: Credentials) -> str:
    """Return the options that let a command of ours in; the key stays where it does not show."""
    files_by_flag = {"--ca": access.ca, "--cert": access.cert, "--cert-key": access.cert_key}
    files = "".join(f" {name} {_quoted(str(path))}" for name, path in files_by_flag.items() if path)
    tls = " --tls" if access.tls else ""
    key = ' --key "$STAGECAST_KEY"' if access.key else ""
    return f"{tls}{files}{key}"


def _grpcurl(batch: r.Batch, address: str, access: Credentials) -> list[str]:
    ids = json.dumps({"dataset_id": batch.dataset_id, "batch_id": batch.batch_id})
    path = socket_path(address)
    target = _quoted(address) if path is None else f"-unix {_quoted(path)}"
    call = f"{_program_with(access)} -d {_quoted(ids)} {target} stagecast.v1.StatusService"
    elsewhere = "" if address == _DEFAULTS.grpc else f" --grpc {_quoted(address)}"
    watch = f"{_program()} watch {batch.dataset_id} {batch.batch_id}"
    return [
        f"  {watch}{elsewhere}{_credentials_options(access)}",
        f"  {_program_with(access)} {target} list",
        f"  {call}/GetBatch",
        f"  {call}/WatchBatch",
    ]
