"""API keys: parts of a read and a write transaction of the SQLite store.

`version` increases with every change of any key, so servers that cache all keys find changes by the
key with the highest one. Its digest and time tell a restored copy, which may have the same number.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence

from stagecast.model import ApiKey, NewKey, Scope, Visibility
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection

_COLUMNS = (
    *("id", "prefix", "digest", "name", "scopes", "datasets"),
    *("created_at", "expires_at", "revoked_at"),
)

# All keys, oldest first, including revoked and expired ones.
_KEYS = f"SELECT {rows.listed(_COLUMNS)} FROM api_keys ORDER BY id"

# A key by its id.
_KEY = f"SELECT {rows.listed(_COLUMNS)} FROM api_keys WHERE id = ?"

# The number of changes of keys.
_VERSION = "SELECT coalesce(max(version), 0) FROM api_keys"

# The last change, and the number of keys, of which somebody may have deleted some.
_LAST_CHANGE = """
    SELECT version, digest, revoked_at, (SELECT count(*) FROM api_keys) FROM api_keys
    ORDER BY version DESC LIMIT 1
"""

# Insert and revoke a key.
_NEW_KEY = f"""
    INSERT INTO api_keys (version, {rows.listed(_COLUMNS[1:7])}, expires_at)
    VALUES (1 + ({_VERSION}), {rows.placeholders(_COLUMNS[1:7])}, ?)
"""
_REVOKE_KEY = f"""
    UPDATE api_keys SET revoked_at = ?, version = 1 + ({_VERSION})
    WHERE id = ? AND revoked_at IS NULL
"""


def read_keys(connection: Connection) -> Sequence[ApiKey]:
    """Return all keys, oldest first, including revoked and expired ones."""
    return [_key_from_row(row) for row in connection.execute(_KEYS)]


class KeyReads:
    """Reads of keys."""

    _connection: Connection

    def list_keys(self) -> Sequence[ApiKey]:
        return read_keys(self._connection)

    def get_keys_version(self) -> Hashable:
        rows = self._connection.execute(_LAST_CHANGE).fetchall()
        return tuple(rows)


class KeyWrites:
    """Writes of keys."""

    _connection: Connection
    now: int

    def add_key(self, key: NewKey) -> ApiKey:
        visible = key.visible.dataset_ids
        cursor = self._connection.execute(
            _NEW_KEY,
            (
                *(key.prefix, key.digest, key.name, " ".join(sorted(key.scopes))),
                None if visible is None else json.dumps(sorted(visible)),
                *(self.now, key.expires_at),
            ),
        )
        [row] = self._connection.execute(_KEY, (cursor.lastrowid,))
        return _key_from_row(row)

    def revoke_key(self, key: ApiKey) -> None:
        self._connection.execute(_REVOKE_KEY, (self.now, key.id))


def _key_from_row(row: rows.Row) -> ApiKey:
    key_id, prefix, digest, name, scopes, datasets, created_at, expires_at, revoked_at = row
    visible = None if datasets is None else frozenset[str](json.loads(datasets))
    return ApiKey(
        id=key_id,
        prefix=prefix,
        digest=digest,
        name=name,
        scopes=frozenset(map(Scope, scopes.split())),
        visible=Visibility(visible),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )
