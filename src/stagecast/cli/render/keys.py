"""Keys as `stagecast keys list` shows them: all fields but the secret."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stagecast.cli.render import formatting
from stagecast.cli.render.output import is_terminal, print_rows
from stagecast.model import SECOND_US, ApiKey, NewKey, Scope
from stagecast.runtime.stdio import echo


def print_keys(keys: Iterable[ApiKey], *, as_json: bool) -> None:
    """Print keys as JSON, as a table on a terminal, or as tab-separated fields in a pipe."""
    now = datetime.now(UTC).timestamp() * SECOND_US
    if as_json:
        for key in keys:
            echo(json.dumps(_as_json(key, now)))
    elif is_terminal(console := Console()):
        _print_for_people([_row(key, now) for key in keys], console)
    else:
        print_rows(_row(key, now) for key in keys)


def _print_for_people(rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print keys as a table, or as blocks of lines where that would break words."""
    heads = [head for head in _HEADS if console.width >= _WIDE or head not in _ONLY_WIDE]
    keys = [_shown(dict(zip(_HEADS, row, strict=True))) for row in rows]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, no_wrap=head in _ONE_WORD)
    for key in keys:
        table.add_row(*(Text(key[head]) for head in heads))
    unlimited = console.options.update(max_width=sys.maxsize)
    if Measurement.get(console, unlimited, table).minimum <= console.width:
        console.print(table)
    else:
        console.print(*map(_block, keys), sep="\n")


def _block(key: Mapping[str, str]) -> Group:
    """Return a key as lines, one a field."""
    fields = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    fields.add_column(style="dim")
    fields.add_column(overflow="fold")
    for head in _HEADS:
        if head not in _TITLE and key[head]:
            fields.add_row(head, key[head])
    title = Text("  ".join(key[head] for head in _TITLE), "bold", overflow="fold")
    return Group(title, Padding(fields, (0, 0, 0, 2)))


def _shown(key: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields of a key as shown; lists get spaces, at which they can be wrapped."""
    return {
        head: formatting.shown(field.replace(",", ", ") if head in _LISTS else field)
        for head, field in key.items()
    }


_WIDE = 160  # columns of a terminal
_ONLY_WIDE = ("created", "revoked")
_ONE_WORD = ("id", "prefix", "state", "expires", "created", "revoked")
_LISTS = ("scopes", "datasets")
_TITLE = ("id", "prefix", "state")
_HEADS = (
    *("id", "prefix", "state", "scopes", "datasets"),
    *("expires", "created", "revoked", "name"),
)


def _row(key: ApiKey, now: float) -> list[str]:
    return [
        *(str(key.id), key.prefix, _state(key, now), scopes_text(key), datasets_text(key)),
        *(
            moment_text(key.expires_at) or "never",
            moment_text(key.created_at),
            moment_text(key.revoked_at),
        ),
        key.name,
    ]


def _as_json(key: ApiKey, now: float) -> dict[str, Any]:
    visible = key.visible.dataset_ids
    return {
        "id": key.id,
        "prefix": key.prefix,
        "state": _state(key, now),
        "scopes": sorted(key.scopes),
        "datasets": None if visible is None else sorted(visible),
        "expires_at": moment_text(key.expires_at) or None,
        "created_at": moment_text(key.created_at),
        "revoked_at": moment_text(key.revoked_at) or None,
        "name": key.name,
    }


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "valid"


def scopes_text(key: ApiKey | NewKey) -> str:
    """Return the scopes of a key."""
    return ",".join(scope for scope in Scope if scope in key.scopes)


def datasets_text(key: ApiKey | NewKey) -> str:
    """Return the datasets of a key."""
    visible = key.visible.dataset_ids
    return "all" if visible is None else ",".join(sorted(visible))


def moment_text(microseconds: int | None) -> str:
    """Return a time in UTC; empty for `None`."""
    if microseconds is None:
        return ""
    return f"{datetime.fromtimestamp(microseconds // SECOND_US, UTC):%Y-%m-%dT%H:%M:%SZ}"
