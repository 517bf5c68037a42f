"""The commands that the demo suggests at its end."""

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


def suggest_commands(
    batch: r.Batch, *, grpc: str, credentials: Credentials, db: Path | None
) -> str:
    """Return commands that show the batch.

    Args:
        batch: the batch of the demo.
        grpc: the server's address.
        credentials: of the demo's calls to it.
        db: its file, if the demo started it; it has ended with the demo.
    """
    if db is None:
        return "\n".join(["To explore further:", "", *_grpcurl(batch, grpc, credentials)])
    return "\n".join(
        [
            "The server of the demo has ended.",
            "To explore further, start it again, and run the others in a second terminal:",
            "",
            f"  {_program()} serve --db {_quoted(str(db))}",
            "",
            *_grpcurl(batch, _DEFAULTS.grpc, credentials),
        ]
    )


def clean_up(directory: Path) -> str:
    """Return how to remove the files of the demo."""
    remove = f"  rm -r {_quoted(str(directory))}"
    return "\n".join(["", "To remove the files of the demo:", "", remove])


def _quoted(text: str) -> str:
    """Return a text quoted for a shell, in the encoding of stdout."""
    return quote_for_shell(text, sys.stdout.encoding or "utf-8")


def _program() -> str:
    """Return the command that starts this program, wherever it is installed."""
    started = Path(sys.argv[0])
    if shutil.which("stagecast"):
        return "stagecast"
    if started.name == "stagecast":
        return _quoted(str(started))
    return f"{_quoted(sys.executable)} -m stagecast"


def _program_with(credentials: Credentials) -> str:
    """Return grpcurl with credentials and TLS options; the key stays in the environment."""
    trust = f" -cacert {_quoted(str(credentials.ca))}" if credentials.ca else ""
    shown = (
        f" -cert {_quoted(str(credentials.cert))} -key {_quoted(str(credentials.cert_key))}"
        if credentials.cert
        else ""
    )
    plain = " -plaintext" if credentials.scheme == "http" else ""
    key = ' -H "authorization: Bearer $STAGECAST_KEY"' if credentials.key else ""
    return f"grpcurl{plain}{trust}{shown}{key}"


def _credentials_options(credentials: Credentials) -> str:
    """Return our credentials and TLS options; the key stays in the environment."""
    files_by_flag = {
        "--ca": credentials.ca,
        "--cert": credentials.cert,
        "--cert-key": credentials.cert_key,
    }
    files = "".join(f" {name} {_quoted(str(path))}" for name, path in files_by_flag.items() if path)
    tls = " --tls" if credentials.tls else ""
    key = ' --key "$STAGECAST_KEY"' if credentials.key else ""
    return f"{tls}{files}{key}"


def _grpcurl(batch: r.Batch, address: str, credentials: Credentials) -> list[str]:
    ids = json.dumps({"dataset_id": batch.dataset_id, "batch_id": batch.batch_id})
    path = socket_path(address)
    target = _quoted(address) if path is None else f"-unix {_quoted(path)}"
    call = f"{_program_with(credentials)} -d {_quoted(ids)} {target} stagecast.v1.StatusService"
    elsewhere = "" if address == _DEFAULTS.grpc else f" --grpc {_quoted(address)}"
    watch = f"{_program()} watch {batch.dataset_id} {batch.batch_id}"
    return [
        f"  {watch}{elsewhere}{_credentials_options(credentials)}",
        f"  {_program_with(credentials)} {target} list",
        f"  {call}/GetBatch",
        f"  {call}/WatchBatch",
    ]
