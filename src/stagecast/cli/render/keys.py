"""Keys as `stagecast keys list` shows them: all fields but the secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
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
        console.print(_table([_row(key, now) for key in keys], wide=console.width >= _WIDE))
    else:
        print_rows(_row(key, now) for key in keys)


def _table(rows: Sequence[Sequence[str]], *, wide: bool) -> Table:
    """Return keys as a table; the columns that `revoke` accepts are never cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    shown = [head for head in _HEADS if wide or head not in _ONLY_WIDE]
    for head in shown:
        table.add_column(head, no_wrap=head in _NEVER_CUT, overflow="fold")
    for row in rows:
        fields = dict(zip(_HEADS, row, strict=True))
        table.add_row(*(Text(formatting.shown(fields[head])) for head in shown))
    return table


_WIDE = 160  # columns of a terminal
_ONLY_WIDE = ("created", "revoked")
_NEVER_CUT = ("id", "prefix", "state")
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
