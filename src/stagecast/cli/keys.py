"""`stagecast keys`: create, list and revoke the keys of a file, also while servers run on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from stagecast.app import opened_store
from stagecast.auth import add_key, make_new_key, prefix_of, revoke_key
from stagecast.cli.params import db_option, examples, parse_duration
from stagecast.cli.render.keys import datasets_text, moment_text, print_keys, scopes_text
from stagecast.errors import StagecastError
from stagecast.escaping import is_printable, quote
from stagecast.maintenance import list_keys
from stagecast.model import SECOND_US, ApiKey, Scope, Visibility, canonical_uuid
from stagecast.paths import shown
from stagecast.runtime.event_loop import run
from stagecast.runtime.stdio import echo
from stagecast.store import Store

_MAX_LIFETIME_S = parse_duration("100y", units="y")
_MAX_NAME = 100
_MAX_DATASETS = 1_000


def check_scopes(
    context: click.Context, parameter: click.Parameter, value: str
) -> frozenset[Scope]:
    """Return scopes that were given with commas between them."""
    try:
        return frozenset(Scope(word.strip()) for word in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{quote(value)} is not some of read,report,control") from error


def check_datasets(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> frozenset[str] | None:
    """Return datasets; `None`, which is all, if none was given."""
    if len(value) > _MAX_DATASETS:
        raise click.BadParameter(f"at most {_MAX_DATASETS} can be named")
    for dataset_id in value:
        if canonical_uuid(dataset_id) is None:
            raise click.BadParameter(f"{quote(dataset_id)} is no UUID")
    return frozenset(dataset_id.lower() for dataset_id in value) or None


def check_span(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return a time to live in microseconds."""
    if value is None:
        return None
    seconds = parse_duration(value, units="hdwy")
    if not 0 < seconds <= _MAX_LIFETIME_S:
        raise click.BadParameter(f"{quote(value)} is not a time such as 12h, 90d, 4w or 1y")
    return seconds * SECOND_US


def check_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return what a key is for."""
    if len(value) > _MAX_NAME or not is_printable(value):
        raise click.BadParameter(f"must be at most {_MAX_NAME} printable characters")
    return value


T = TypeVar("T")

_db_option = db_option("The SQLite file of the servers.")


@click.group(epilog=examples("keys create --db walk.db", "keys list --db walk.db"))
def keys() -> None:
    """Make, list and revoke the keys that a server asks for.

    They are kept in its file. All servers on it know of a change within a second; the first key
    makes them ask for one.
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
    help="What it allows, separated by commas: read (StatusService and the REST paths), report "
    "(ReportService), control (ControlService).",
)
@click.option(
    "--dataset",
    "datasets",
    metavar="UUID",
    multiple=True,
    callback=check_datasets,
    help="Allow it for this dataset only; may be given more than once, also for datasets that are "
    "not there yet.  [default: all]",
)
@click.option(
    "--expires",
    "lives_us",
    metavar="TIME",
    callback=check_span,
    help="When it ends, such as 12h, 90d, 4w or 1y from now.  [default: never]",
)
@click.option(
    "--name",
    default="",
    metavar="TEXT",
    callback=check_name,
    help="What it is for; it is shown in lists, messages and logs.",
)
def create(
    *,
    db: Path,
    scopes: frozenset[Scope],
    datasets: frozenset[str] | None,
    lives_us: int | None,
    name: str,
) -> None:
    """Make a key and print it, this one time: only its SHA-256 is kept.

    The key is all that goes to stdout; if it cannot be written there, none is made. The file is
    created if it is not there.

    Exit code: 0, 1 if it was not made, 74 if it could not be printed, and so was not made.
    """

    async def make(store: Store) -> None:
        secret, key = await make_new_key(
            store, name=name, scopes=scopes, visible=Visibility(datasets), lives_us=lives_us
        )
        click.echo(
            f"key {key.prefix}: {scopes_text(key)}; datasets: {datasets_text(key)}; "
            f"expires: {moment_text(key.expires_at) or 'never'}. It is shown this once:",
            err=True,
        )
        echo(secret)  # before it is made: one that nobody has seen would turn credentials on
        try:
            await add_key(store, key)
        except StagecastError as error:
            raise click.ClickException(f"the key was not made: {error}") from error

    _with_store(db, make)


@keys.command("list", epilog=examples("keys list --db walk.db"))
@_db_option
@click.option("--json", "as_json", is_flag=True, help="Print each key as a line of JSON.")
def list_(*, db: Path, as_json: bool) -> None:
    """List all keys, the oldest first, also those that were revoked or have expired.

    In a pipe each key is a line of fields between tabs: id, prefix, state, scopes, datasets,
    expires, created, revoked, name.
    """
    print_keys(_read_keys(db), as_json=as_json)


@keys.command(epilog=examples("keys revoke --db walk.db stagecast_3vq8x0ab"))
@_db_option
@click.argument("key")
def revoke(*, db: Path, key: str) -> None:
    """Revoke a key, named by its prefix or its id: it opens nothing any more.

    Watches that were begun with it end as well. To revoke a key twice does no harm.
    """
    _read_keys(db)  # who opens a file to write it makes one
    named = prefix_of(key) or key
    before = _with_store(db, lambda store: revoke_key(store, named))
    if before is None:
        # What was typed may be a secret with a typing error in it.
        raise click.ClickException(f"{shown(db)} has no such key; 'stagecast keys list' shows all")
    done = "was revoked before" if before.revoked_at is not None else "is revoked"
    echo(f"key {before.prefix} {done}")


def _read_keys(db: Path) -> Sequence[ApiKey]:
    try:
        return list_keys(db)
    except StagecastError as error:
        raise click.ClickException(str(error)) from error


def _with_store(db: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    async def whole() -> T:
        async with opened_store(db) as store:
            return await work(store)

    try:
        return run(whole())
    except StagecastError as error:
        raise click.ClickException(str(error)) from error
