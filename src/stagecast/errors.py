"""Everything that stagecast raises on purpose.

The tree, with the reason that a client sees (`google.rpc.ErrorInfo.reason`):

    StagecastError
    ├── CredentialsError        who asks is not known
    │   ├── CredentialsMissing  CREDENTIALS_MISSING
    │   ├── CredentialsInvalid  CREDENTIALS_INVALID
    │   └── CredentialsExpired  CREDENTIALS_EXPIRED
    ├── DeniedError             who asks is known, and may not
    │   └── ScopeMissing        SCOPE_MISSING
    ├── InvalidError            the request breaks a rule; nothing was written
    │   ├── FieldInvalid        FIELD_INVALID
    │   └── TokenInvalid        TOKEN_INVALID
    ├── NotFoundError           what the request names is not there
    │   ├── DatasetNotFound     DATASET_NOT_FOUND
    │   ├── BatchNotFound       BATCH_NOT_FOUND
    │   ├── BatchDeleted        BATCH_DELETED (while it was watched)
    │   └── DocumentNotFound    DOCUMENT_NOT_FOUND
    ├── ExistsError             the id is taken by other content
    │   ├── BatchExists         BATCH_EXISTS
    │   └── DocumentExists      DOCUMENT_EXISTS
    ├── RefusedError            the state does not allow it; nothing was written
    │   ├── IllegalTransition   ILLEGAL_TRANSITION
    │   ├── StaleAttempt        STALE_ATTEMPT
    │   └── BatchSealed         BATCH_SEALED
    ├── HistoryError            a watch cannot go on where it was
    │   ├── TokenExpired        TOKEN_EXPIRED
    │   └── HistoryChanged      HISTORY_CHANGED
    ├── RetryableError          trying again makes sense, after `retry_after_s`
    │   ├── ExhaustedError      it is the caller who has too much
    │   │   ├── WatchLimit      WATCH_LIMIT
    │   │   ├── SlowReader      SLOW_READER
    │   │   └── SlowSender      SLOW_SENDER
    │   └── UnavailableError    it is the server that cannot
    │       ├── Draining        DRAINING
    │       ├── WatchExpired    WATCH_EXPIRED
    │       ├── StoreBusy       STORE_BUSY
    │       └── StoreTimeout    STORE_TIMEOUT
    └── StartError              the server cannot start; told on the terminal, never to a client

Each transport has one table that turns these classes into its codes.
"""

from __future__ import annotations

from typing import ClassVar

from stagecast.escaping import quote


class StagecastError(Exception):
    """Base of all; `metadata` names the ids and values that programs want."""

    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in metadata.items()}


class CredentialsError(StagecastError):
    """Who asks is not known. Messages and `metadata` never bear more of a key than its prefix."""


class CredentialsMissing(CredentialsError):
    """Credentials are wanted, and none were given."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(CredentialsError):
    """They are malformed, forged, unknown or revoked."""

    reason = "CREDENTIALS_INVALID"


class CredentialsExpired(CredentialsError):
    """Their time is over."""

    reason = "CREDENTIALS_EXPIRED"


class DeniedError(StagecastError):
    """Who asks is known, and may not."""


class ScopeMissing(DeniedError):
    """The credentials do not allow this kind of call at all."""

    reason = "SCOPE_MISSING"


class InvalidError(StagecastError):
    """The request breaks a rule; nothing was written. `field` is the path of what breaks it."""

    def __init__(self, field: str, rule: str, **metadata: object) -> None:
        super().__init__(f"{field}: {rule}", field=field, **metadata)
        self.field = field
        self.rule = rule


class FieldInvalid(InvalidError):
    """A field breaks its rule."""

    reason = "FIELD_INVALID"


class TokenInvalid(InvalidError):
    """A resume token is malformed or of another batch."""

    reason = "TOKEN_INVALID"


class NotFoundError(StagecastError):
    """What the request names is not there, or not visible to the caller."""


class DatasetNotFound(NotFoundError):
    """There is no such dataset."""

    reason = "DATASET_NOT_FOUND"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"no dataset {quote(dataset_id)}", dataset_id=dataset_id)


class BatchNotFound(NotFoundError):
    """There is no such batch."""

    reason = "BATCH_NOT_FOUND"

    def __init__(self, dataset_id: str, batch_id: str) -> None:
        super().__init__(
            f"no batch {quote(batch_id)} in dataset {quote(dataset_id)}",
            dataset_id=dataset_id,
            batch_id=batch_id,
        )


class BatchDeleted(NotFoundError):
    """The batch went while it was watched."""

    reason = "BATCH_DELETED"

    def __init__(self, dataset_id: str, batch_id: str) -> None:
        super().__init__(
            f"batch {quote(batch_id)} of dataset {quote(dataset_id)} was deleted",
            dataset_id=dataset_id,
            batch_id=batch_id,
        )


class DocumentNotFound(NotFoundError):
    """There is no such document; `similar` is the id that was meant maybe, and its normal form."""

    reason = "DOCUMENT_NOT_FOUND"

    def __init__(
        self,
        dataset_id: str,
        batch_id: str,
        document_id: str,
        *,
        similar: tuple[str, str] | None = None,
    ) -> None:
        message = (
            f"no document {quote(document_id)} in batch {quote(batch_id)} of dataset "
            f"{quote(dataset_id)}"
        )
        metadata = {"dataset_id": dataset_id, "batch_id": batch_id, "document_id": document_id}
        if similar:
            similar_id, form = similar
            message += (
                f"; there is {quote(similar_id)}, which differs only in Unicode normalisation "
                f"({form})"
            )
            metadata["similar_document_id"] = similar_id
        super().__init__(message, **metadata)


class ExistsError(StagecastError):
    """The id is taken by other content."""


class BatchExists(ExistsError):
    """The batch was made with other content."""

    reason = "BATCH_EXISTS"


class DocumentExists(ExistsError):
    """The document was registered with other content."""

    reason = "DOCUMENT_EXISTS"


class RefusedError(StagecastError):
    """The state does not allow it; nothing was written."""


class IllegalTransition(RefusedError):
    """The document is terminal and the report is neither a repeat nor overtaken."""

    reason = "ILLEGAL_TRANSITION"


class StaleAttempt(RefusedError):
    """The report names an attempt older than the current one."""

    reason = "STALE_ATTEMPT"


class BatchSealed(RefusedError):
    """The batch takes no more documents."""

    reason = "BATCH_SEALED"


class HistoryError(StagecastError):
    """A watch cannot go on where it was."""


class TokenExpired(HistoryError):
    """The history after the token is no longer retained."""

    reason = "TOKEN_EXPIRED"


class HistoryChanged(HistoryError):
    """The token is of another history."""

    reason = "HISTORY_CHANGED"


class RetryableError(StagecastError):
    """Not now; trying again after `retry_after_s` seconds makes sense."""

    def __init__(self, message: str, *, retry_after_s: float, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_after_s = retry_after_s


class ExhaustedError(RetryableError):
    """The caller has too much of something."""


class WatchLimit(ExhaustedError):
    """The caller, or the server, has as many watches open as may be."""

    reason = "WATCH_LIMIT"


class SlowReader(ExhaustedError):
    """The client did not read what it was sent."""

    reason = "SLOW_READER"


class SlowSender(ExhaustedError):
    """The client did not send its request in time."""

    reason = "SLOW_SENDER"


class UnavailableError(RetryableError):
    """The server cannot, now."""


class Draining(UnavailableError):
    """The server is about to stop."""

    reason = "DRAINING"


class WatchExpired(UnavailableError):
    """The watch has lived long enough; reconnecting spreads watches over servers."""

    reason = "WATCH_EXPIRED"


class StoreBusy(UnavailableError):
    """The store cannot be read or written now."""

    reason = "STORE_BUSY"


class StoreTimeout(UnavailableError):
    """The store did not answer in time, as when a disk hangs; a write may still be recorded."""

    reason = "STORE_TIMEOUT"


class StartError(StagecastError):
    """The server cannot start: a bad address, a foreign file."""

    reason = "START_ERROR"
