"""The lines to copy into a shell after the demo."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r

_DEFAULTS = Config()


def look_further(batch: r.Batch, *, grpc: str, db: Path | None) -> str:
    """Return commands that ask for the batch.

    Args:
        batch: what to ask for.
        grpc: the server's address.
        db: its file, if the server was part of this command and has ended with it.
    """
    if db is None:
        return "\n".join(["To look further:", "", *_grpcurl(batch, grpc)])
    return "\n".join(
        [
            "The server was part of this command and has ended with it; its file stays.",
            "To look further, start one on that file, and ask it from another terminal:",
            "",
            f"  {_program()} serve --db {shlex.quote(str(db))}",
            "",
            *_grpcurl(batch, _DEFAULTS.grpc),
        ]
    )


def _program() -> str:
    """Return what to type for this program, wherever it is."""
    started = Path(sys.argv[0])
    if shutil.which("stagecast"):
        return "stagecast"
    if started.name == "stagecast":
        return shlex.quote(str(started))
    return f"{shlex.quote(sys.executable)} -m stagecast"


def _grpcurl(batch: r.Batch, address: str) -> list[str]:
    ids = json.dumps({"dataset_id": batch.dataset_id, "batch_id": batch.batch_id})
    server = shlex.quote(address)
    asked = f"grpcurl -plaintext -d {shlex.quote(ids)} {server} stagecast.v1.StatusService"
    watch = f"{_program()} watch {batch.dataset_id} {batch.batch_id}"
    return [
        f"  {watch}" if address == _DEFAULTS.grpc else f"  {watch} --grpc {server}",
        f"  grpcurl -plaintext {server} list",
        f"  {asked}/GetBatch",
        f"  {asked}/WatchBatch",
    ]
