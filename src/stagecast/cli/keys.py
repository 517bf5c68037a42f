"""`stagecast keys`: create, list and revoke the API keys of a file, even in use by servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from stagecast.app import opened_store
from stagecast.auth import add_key, make_new_key, prefix_of, revoke_key
from stagecast.cli.maintenance import run_on_file
from stagecast.cli.params import check_dataset, db_option, examples
from stagecast.cli.render.keys import datasets_text, moment_text, print_keys, scopes_text
from stagecast.client.datasets import dataset_id
from stagecast.durations import SECONDS, parse_duration
from stagecast.errors import StagecastError
from stagecast.escaping import is_printable, quote
from stagecast.maintenance import list_keys
from stagecast.model import SECOND_US, ApiKey, Scope, Visibility
from stagecast.paths import shown
from stagecast.runtime.event_loop import run
from stagecast.runtime.stdio import echo
from stagecast.store import Store

_MAX_LIFETIME_S = 100 * SECONDS["y"]
_MAX_NAME = 100
_MAX_DATASETS = 1_000


def check_scopes(
    context: click.Context, parameter: click.Parameter, value: str
) -> frozenset[Scope]:
    """Return comma-separated scopes."""
    try:
        return frozenset(Scope(word.strip()) for word in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"invalid scopes {quote(value)}; use one or more of read,report,control"
        ) from error


def check_datasets(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> frozenset[str] | None:
    """Return datasets; `None`, which means all, without any."""
    if len(value) > _MAX_DATASETS:
        raise click.BadParameter(f"too many datasets: {len(value)}; the maximum is {_MAX_DATASETS}")
    for dataset in value:
        check_dataset(context, parameter, dataset)
    return frozenset(map(dataset_id, value)) or None


def check_lifetime(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | None:
    """Return a lifetime in microseconds."""
    if value is None:
        return None
    seconds = parse_duration(value, units="hdwy") or 0
    if not 0 < seconds <= _MAX_LIFETIME_S:
        raise click.BadParameter(
            f"invalid duration {quote(value)}; use a form such as 12h, 90d, 4w or 1y, up to 100y"
        )
    return seconds * SECOND_US


def check_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the name of a key."""
    if len(value) > _MAX_NAME or not is_printable(value):
        raise click.BadParameter(f"must be at most {_MAX_NAME} printable characters")
    return value


T = TypeVar("T")

_db_option = db_option("SQLite file of the servers.")


@click.group(epilog=examples("keys create --db walk.db", "keys list --db walk.db"))
def keys() -> None:
    """Create, list and revoke API keys.

    Keys are stored in the file of the servers, which notice a change within a second. Once there is
    a key, every call requires a key or token.
    """


@keys.command(
    epilog=examples(
        "keys create --db walk.db --name admin",
        "keys create --db walk.db --scope read --expires 90d "
        "--dataset 7c9e6679-7425-40de-944b-e07fc1f90ae7",
    )
)
@_db_option
@click.option(
    "--scope",
    "scopes",
    metavar="SCOPES",
    default="read,report,control",
    show_default=True,
    callback=check_scopes,
    help="Allowed scopes, separated by commas: read (StatusService and the REST paths), report "
    "(ReportService), control (ControlService).",
)
@click.option(
    "--dataset",
    "datasets",
    metavar="DATASET",
    multiple=True,
    callback=check_datasets,
    help="Allow this dataset only, a UUID or a name, even if it does not exist yet; can be "
    "repeated.  [default: all]",
)
@click.option(
    "--expires",
    "lives_us",
    metavar="TIME",
    callback=check_lifetime,
    help="Lifetime from now, such as 12h, 90d, 4w or 1y.  [default: unlimited]",
)
@click.option(
    "--name",
    default="",
    metavar="TEXT",
    callback=check_name,
    help="Purpose of the key; shown in lists, messages and logs.",
)
def create(
    *,
    db: Path,
    scopes: frozenset[Scope],
    datasets: frozenset[str] | None,
    lives_us: int | None,
    name: str,
) -> None:
    """Create a key and print it once; only its SHA-256 is stored.

    Only the key goes to stdout; if it cannot be written, no key is created. The file is created if
    it does not exist.

    Exit code: 0 on success, 1 if the key was not created, 74 if it could not be printed, and so was
    not created.
    """

    async def make(store: Store) -> None:
        secret, key = await make_new_key(
            store, name=name, scopes=scopes, visible=Visibility(datasets), lives_us=lives_us
        )
        click.echo(
            f"key {key.prefix}: {scopes_text(key)}; datasets: {datasets_text(key)}; "
            f"expires: {moment_text(key.expires_at) or 'never'}. It is shown only once:",
            err=True,
        )
        echo(secret)  # first: an unseen key would lock everybody out
        try:
            await add_key(store, key)
        except StagecastError as error:
            raise click.ClickException(f"the key was not created: {error}") from error

    _with_store(db, make)


@keys.command("list", epilog=examples("keys list --db walk.db"))
@_db_option
@click.option("--json", "as_json", is_flag=True, help="Print each key as one line of JSON.")
def list_(*, db: Path, as_json: bool) -> None:
    """List all keys, oldest first, including revoked and expired ones.

    On a terminal: a table. In a pipe: a line per key, with tabs between id, prefix, state, scopes,
    datasets, expires, created, revoked, name.
    """
    print_keys(_read_keys(db), as_json=as_json)


@keys.command(epilog=examples("keys revoke --db walk.db stagecast_3vq8x0ab"))
@_db_option
@click.argument("key")
def revoke(*, db: Path, key: str) -> None:
    """Revoke a key.

    KEY is the prefix or the id of the key. Servers refuse it from now on, and end the watches that
    were started with it. Revoking a key twice is no error.
    """
    _read_keys(db)  # opening a missing file for writing would create it
    named = prefix_of(key) or key
    before = _with_store(db, lambda store: revoke_key(store, named))
    if before is None:
        # The argument is not repeated: it may be a mistyped secret.
        raise click.ClickException(
            f"no such key in {shown(db)}; 'stagecast keys list --db {shown(db)}' shows all"
        )
    done = "was already revoked" if before.revoked_at is not None else "is revoked"
    echo(f"key {before.prefix} {done}")


def _read_keys(db: Path) -> Sequence[ApiKey]:
    return run_on_file(partial(list_keys, db), doing=f"reading {shown(db)}")


def _with_store(db: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    async def run_work() -> T:
        async with opened_store(db) as store:
            return await work(store)

    try:
        return run(run_work())
    except StagecastError as error:
        raise click.ClickException(str(error)) from error
