"""The schema of the SQLite store, as migrations.

A migration is never edited after a release. It only adds, and a later release removes, so that
servers of the previous release go on reading and writing while those of this one replace them: they
leave columns that they do not know at their defaults. A migration that they could not go on with,
one that removes or renames, or adds what they would have to keep up to date, is `@breaking`.

The version of a schema is the number of its migrations. The file has the names of its own, and in
`user_version` the oldest version whose code may write to it; 0 if no release has said so.

`documents` and `transitions` are clustered by batch: snapshots and watches read adjacent rows.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x53544743  # "STGC", in the file's header, for `file` and `open_writer`

migrations = Migrations("stagecast")

_breaking: set[str] = set()


def breaking(migration: Callable[[Database], None]) -> Callable[[Database], None]:
    """Declare that code without this migration must not write to a file that has it."""
    _breaking.add(migration.__name__)
    return migration


def upgrade(db: Database) -> None:
    """Apply the migrations that a file lacks, and note which older code may go on writing."""
    if migrations.pending(db):
        migrations.apply(db)
        db.execute(f"PRAGMA user_version = {_oldest_writer()}")


def find_newer(db: Database) -> str | None:
    """Return a migration of a newer release which does not let this one use the file, if any."""
    names = _names()
    unknown = [step.name for step in migrations.applied(db) if step.name not in names]
    [(oldest_writer,)] = db.execute("PRAGMA user_version").fetchall()
    return unknown[0] if unknown and not 0 < oldest_writer <= len(names) else None


def _oldest_writer() -> int:
    """Return the version of the schema after the last breaking migration."""
    return max(version for version, name in enumerate(_names(), start=1) if name in _breaking)


def _names() -> list[str]:
    """Return the names of all migrations, in their order."""
    with Database(memory=True) as empty:
        return [step.name for step in migrations.pending(empty)]


# Document counts, in the order of `DocumentCounts`.
_COUNTS = """
    pending INTEGER NOT NULL, running INTEGER NOT NULL, paused INTEGER NOT NULL,
    succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, stopped INTEGER NOT NULL,
    stalled_documents INTEGER NOT NULL
"""

# The mutable columns of a document; also in the log, where they are null without a document.
_CONDITION = """
    state INTEGER, stage INTEGER, attempt INTEGER, worker TEXT, stalled INTEGER,
    completed_segments INTEGER, total_segments INTEGER, error_reason TEXT, error_message TEXT,
    processing_started_at INTEGER, parsing_completed_at INTEGER, cleaning_completed_at INTEGER,
    splitting_completed_at INTEGER, completed_at INTEGER, paused_at INTEGER, stopped_at INTEGER
"""


@migrations()
def create_tables(db: Database) -> None:
    """Create datasets, batches, documents and the log."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _create_datasets(db)
    _create_batches(db)
    _create_documents(db)
    _create_progress(db)
    _create_transitions(db)


def _create_datasets(db: Database) -> None:
    db.execute(f"""
        CREATE TABLE datasets (
            id INTEGER PRIMARY KEY,
            dataset_id TEXT NOT NULL UNIQUE,
            batches INTEGER NOT NULL, open_batches INTEGER NOT NULL,
            pending_batches INTEGER NOT NULL, last_ended INTEGER,
            {_COUNTS},
            updated_at INTEGER NOT NULL
        ) STRICT
    """)


def _create_batches(db: Database) -> None:
    # AUTOINCREMENT: the key of a deleted batch is never reused.
    db.execute(f"""
        CREATE TABLE batches (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            dataset INTEGER NOT NULL REFERENCES datasets,
            batch_id TEXT NOT NULL,
            labels TEXT NOT NULL,
            stall_after_us INTEGER NOT NULL, fail_after_us INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            sealed INTEGER NOT NULL,
            {_COUNTS},
            segments_completed INTEGER NOT NULL, segments_total INTEGER NOT NULL,
            segments_unknown INTEGER NOT NULL,
            revision INTEGER NOT NULL,
            progress_serial INTEGER NOT NULL, progress_mark INTEGER NOT NULL,
            updated_at INTEGER NOT NULL, ended_at INTEGER,
            fingerprint BLOB NOT NULL, created_documents INTEGER NOT NULL, request_id TEXT,
            UNIQUE (dataset, batch_id)
        ) STRICT
    """)
    db.execute("""
        CREATE UNIQUE INDEX batches_by_request ON batches (dataset, request_id)
        WHERE request_id IS NOT NULL
    """)


def _create_documents(db: Database) -> None:
    db.execute(f"""
        CREATE TABLE documents (
            batch INTEGER NOT NULL REFERENCES batches,
            position INTEGER NOT NULL,
            document_id TEXT NOT NULL,
            display_name TEXT NOT NULL,
            labels TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            {_CONDITION},
            revision INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            progress_serial INTEGER NOT NULL,
            PRIMARY KEY (batch, position),
            UNIQUE (batch, document_id)
        ) STRICT, WITHOUT ROWID
    """)


def _create_progress(db: Database) -> None:
    # For watchers that query newer counters; most documents never enter it.
    db.execute("""
        CREATE INDEX documents_by_progress ON documents (batch, progress_serial)
        WHERE progress_serial > 0
    """)
    # The last serial that each server assigned in a batch: histories never share one.
    db.execute("""
        CREATE TABLE progress_marks (
            batch INTEGER NOT NULL REFERENCES batches,
            mark INTEGER NOT NULL,
            serial INTEGER NOT NULL,
            PRIMARY KEY (batch, mark)
        ) STRICT, WITHOUT ROWID
    """)


def _create_transitions(db: Database) -> None:
    db.execute(f"""
        CREATE TABLE transitions (
            batch INTEGER NOT NULL REFERENCES batches,
            revision INTEGER NOT NULL,
            call INTEGER NOT NULL,
            kind INTEGER NOT NULL,
            position INTEGER,
            previous_state INTEGER, previous_stage INTEGER,
            event_at INTEGER, committed_at INTEGER NOT NULL,
            sealed INTEGER NOT NULL,
            {_COUNTS},
            {_CONDITION},
            PRIMARY KEY (batch, revision)
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def index_history(db: Database) -> None:
    """Index the history of a document, also for its state as of a revision."""
    db.execute("""
        CREATE INDEX transitions_by_document ON transitions (batch, position, revision)
        WHERE position IS NOT NULL
    """)


@migrations()
def derive_batch_states(db: Database) -> None:
    """Index batches by state.

    The column is `model.batch_state`, or 0 for a deleted batch. It is generated, so that the code
    of the previous release keeps it up to date.
    """
    # Added by ALTER TABLE: the definition of an existing table cannot be edited.
    db.execute("""
        ALTER TABLE batches ADD COLUMN state INTEGER GENERATED ALWAYS AS (CASE
            WHEN batch_id GLOB '/*' THEN 0
            WHEN NOT sealed OR pending + running + paused > 0 THEN CASE
                WHEN running + paused + succeeded + failed + stopped = 0 THEN 1
                WHEN paused > 0 AND pending + running = 0 THEN 3
                ELSE 2 END
            WHEN paused + failed + stopped = 0 THEN 4
            WHEN succeeded > 0 THEN 5
            WHEN failed > 0 THEN 6
            ELSE 7 END) VIRTUAL
    """)
    db.execute("CREATE INDEX batches_by_state ON batches (state)")
    db.execute("CREATE INDEX batches_by_dataset ON batches (dataset, state)")
    db.execute("""
        CREATE INDEX batches_by_end ON batches (dataset, ended_at) WHERE ended_at IS NOT NULL
    """)


@migrations()
def number_dataset_changes(db: Database) -> None:
    """Add one sequence that numbers the changes of all datasets, including removals."""
    db.execute("ALTER TABLE datasets ADD COLUMN serial INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE datasets SET serial = id")
    db.execute("CREATE INDEX datasets_by_serial ON datasets (serial)")
    # Rows are never deleted: the last serial must stay known, and datasets are few.
    db.execute("""
        CREATE TABLE removed_datasets (
            serial INTEGER PRIMARY KEY,
            dataset_id TEXT NOT NULL
        ) STRICT
    """)


@migrations()
def time_silence(db: Database) -> None:
    """Add timers of running documents, and the lease of the stall detector.

    `heard_at` is when a document was last heard from, or stalled. `due_at` is when to check it, at
    its deadline or before, since a sign of life moves `heard_at` only; null without a timeout.
    """
    db.execute("ALTER TABLE documents ADD COLUMN heard_at INTEGER")
    db.execute("ALTER TABLE documents ADD COLUMN due_at INTEGER")
    db.execute("CREATE INDEX documents_by_due ON documents (due_at) WHERE due_at IS NOT NULL")
    db.execute("""
        UPDATE documents SET heard_at = documents.updated_at,
            due_at = documents.updated_at + stall_after_us
        FROM batches
        WHERE batches.id = documents.batch AND documents.state = 2 AND NOT documents.stalled
            AND stall_after_us > 0
    """)
    # One row; the holder is a random number, 0 for none.
    db.execute("""
        CREATE TABLE keeper (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            holder INTEGER NOT NULL, beat INTEGER NOT NULL, reached_at INTEGER NOT NULL
        ) STRICT
    """)
    db.execute("INSERT INTO keeper VALUES (1, 0, 0, 0)")


@migrations()
def find_history(db: Database) -> None:
    """Add where each log begins, and indexes of ended batches by age and by log length."""
    db.execute("ALTER TABLE batches ADD COLUMN kept_from INTEGER NOT NULL DEFAULT 1")
    for index, of, which in (
        ("batches_by_age", "ended_at", ""),
        ("batches_by_history", "ended_at", "AND kept_from < revision"),
        ("batches_by_length", "revision - kept_from", ""),
    ):
        db.execute(f"CREATE INDEX {index} ON batches ({of}) WHERE ended_at IS NOT NULL {which}")


@migrations()
def keep_keys(db: Database) -> None:
    """Add API keys: the SHA-256 and the permissions of each.

    `datasets` is a JSON list of ids, null for all. A key is revoked, never deleted: the existence
    of any key turns authentication on.
    """
    db.execute("""
        CREATE TABLE api_keys (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            serial INTEGER NOT NULL UNIQUE,
            prefix TEXT NOT NULL UNIQUE,
            digest BLOB NOT NULL UNIQUE,
            name TEXT NOT NULL,
            scopes TEXT NOT NULL,
            datasets TEXT,
            created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER
        ) STRICT
    """)


@migrations()
def keep_secret(db: Database) -> None:
    """Add a secret of the file, with which page tokens are encrypted."""
    db.execute("""
        CREATE TABLE secrets (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            page_secret BLOB NOT NULL
        ) STRICT
    """)
    db.execute("INSERT INTO secrets VALUES (1, randomblob(32))")


@migrations()
def time_waits(db: Database) -> None:
    """Add timeouts of documents that wait for a worker, and of batches that wait for documents.

    `idle_since` is when documents were last added to a batch. The index holds the batches that can
    be sealed by timeout.
    """
    for column in ("start_after_us", "seal_after_us", "idle_since"):
        db.execute(f"ALTER TABLE batches ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.execute("""
        CREATE INDEX batches_by_seal ON batches (idle_since + seal_after_us)
        WHERE seal_after_us > 0 AND NOT sealed AND pending + running + paused = 0
    """)


@migrations()
@breaking
def use_plain_names(db: Database) -> None:
    """Give tables and columns the names of the code.

    The only migration that renames: it was added before the first release.
    """
    for table, old, new in (
        ("batches", "progress_serial", "progress_seq"),
        ("batches", "progress_mark", "server_epoch"),
        ("documents", "progress_serial", "progress_seq"),
        ("progress_marks", "mark", "server_epoch"),
        ("progress_marks", "serial", "progress_seq"),
        ("transitions", "call", "write_id"),
        ("datasets", "serial", "change_seq"),
        ("removed_datasets", "serial", "change_seq"),
        ("api_keys", "serial", "version"),
        ("keeper", "beat", "renewals"),
        ("batches", "kept_from", "first_revision"),
    ):
        db.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    db.execute("ALTER TABLE progress_marks RENAME TO progress_epochs")
    db.execute("ALTER TABLE keeper RENAME TO stall_detector_lease")
    db.execute("DROP INDEX datasets_by_serial")
    db.execute("CREATE INDEX datasets_by_change ON datasets (change_seq)")


# Rows that a release without these columns inserted, or updated after they were encoded.
NOT_ENCODED = {
    "documents": (
        "encoded_identity IS NULL OR encoded_revision IS NOT revision "
        "OR encoded_progress_seq IS NOT progress_seq"
    ),
    "transitions": "encoder_version IS NULL",
}


@migrations()
def keep_encoded(db: Database) -> None:
    """Add what is sent of documents and transitions, encoded, and indexes of rows without it.

    The indexes are empty but for rows of the previous release. A release that raises the version of
    the encoder makes them anew, with `OR encoder_version <` its version.
    """
    for table, columns in (
        ("documents", "encoded_identity BLOB, encoded_rest BLOB, encoder_version INTEGER"),
        ("documents", "encoded_revision INTEGER, encoded_progress_seq INTEGER"),
        ("transitions", "encoded_condition BLOB, encoder_version INTEGER"),
    ):
        for column in columns.split(", "):
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    for table, key in (("documents", "position"), ("transitions", "revision")):
        db.execute(f"""
            CREATE INDEX {table}_to_encode ON {table} (batch, {key}) WHERE {NOT_ENCODED[table]}
        """)


# Also those that a release with an older encoder wrote, and none of a newer one: the two would undo
# each other's work for as long as they run together. Appended, so that SQLite finds the queries of
# the older one to be covered by the new index.
TO_ENCODE = {
    table: f"{condition} OR encoder_version < 2" for table, condition in NOT_ENCODED.items()
}


@migrations()
def add_steps_and_names(db: Database) -> None:
    """Add steps of documents and display names of datasets, and encode all rows anew.

    A step counts only in its attempt and stage, since older code leaves it there.
    """
    for table in ("documents", "transitions"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN step_name TEXT")
        for name in ("completed", "total", "attempt", "stage"):
            db.execute(f"ALTER TABLE {table} ADD COLUMN step_{name} INTEGER")
    db.execute("ALTER TABLE datasets ADD COLUMN display_name TEXT NOT NULL DEFAULT ''")
    for table, key in (("documents", "position"), ("transitions", "revision")):
        db.execute(f"DROP INDEX {table}_to_encode")
        db.execute(f"""
            CREATE INDEX {table}_to_encode ON {table} (batch, {key}) WHERE {TO_ENCODE[table]}
        """)
