"""The commands that the demo suggests at its end."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from stagecast.cli.rest_poll import paths_of
from stagecast.cli.target import Credentials
from stagecast.config import Config, socket_path
from stagecast.escaping import quote_for_shell
from stagecast.v1 import resources_pb2 as r

_DEFAULTS = Config()


def serve(db: Path) -> str:
    """Return the command that serves a file."""
    return f"{_program()} serve --db {_quoted(str(db))}"


def watch(dataset: str, batch: r.Batch, address: str, credentials: Credentials) -> str:
    """Return the command that watches a batch of a dataset with this name or id."""
    elsewhere = "" if address == _DEFAULTS.grpc else f" --grpc {_quoted(address)}"
    options = f"{elsewhere}{_credentials_options(credentials)}"
    return f"{_program()} watch {_quoted(dataset)} {batch.batch_id}{options}"


def poll(batch: r.Batch, address: str, credentials: Credentials) -> str:
    """Return the command that gets the documents of a batch over HTTP."""
    documents, _dataset = paths_of(batch)
    files_by_flag = {
        "--cacert": credentials.ca,
        "--cert": credentials.cert,
        "--key": credentials.cert_key,
    }
    files = "".join(f" {name} {_quoted(str(path))}" for name, path in files_by_flag.items() if path)
    key = ' -H "authorization: Bearer $STAGECAST_KEY"' if credentials.key else ""
    return f"curl{files}{key} {_quoted(f'{credentials.scheme}://{address}{documents}')}"


def grpcurl(batch: r.Batch, address: str, credentials: Credentials) -> list[str]:
    """Return grpcurl commands that list the services, and get and watch a batch."""
    ids = json.dumps({"dataset_id": batch.dataset_id, "batch_id": batch.batch_id})
    path = socket_path(address)
    target = _quoted(address) if path is None else f"-unix {_quoted(path)}"
    program = _grpcurl_with(credentials)
    call = f"{program} -d {_quoted(ids)} {target} stagecast.v1.StatusService"
    return [f"{program} {target} list", f"{call}/GetBatch", f"{call}/WatchBatch"]


def remove(directory: Path) -> str:
    """Return the command that removes a directory."""
    return f"rm -r {_quoted(str(directory))}"


def page(batch: r.Batch, address: str, credentials: Credentials) -> str:
    """Return the URL of the page of a batch."""
    path = f"/datasets/{batch.dataset_id}/batches/{batch.batch_id}"
    return f"{credentials.scheme}://{address}{path}"


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


def _grpcurl_with(credentials: Credentials) -> str:
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
