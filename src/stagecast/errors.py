"""Everything that stagecast raises on purpose.

The tree, with the reason that a client sees (`google.rpc.ErrorInfo.reason`):

    StagecastError
    ├── CredentialsError        the caller is unknown
    │   ├── CredentialsMissing  CREDENTIALS_MISSING
    │   ├── CredentialsInvalid  CREDENTIALS_INVALID
    │   └── CredentialsExpired  CREDENTIALS_EXPIRED
    ├── DeniedError             the caller is known, but lacks permission
    │   └── ScopeMissing        SCOPE_MISSING
    ├── InvalidError            the request breaks a rule; nothing was written
    │   ├── FieldInvalid        FIELD_INVALID
    │   └── TokenInvalid        TOKEN_INVALID
    ├── NotFoundError           the request names something that does not exist
    │   ├── DatasetNotFound     DATASET_NOT_FOUND
    │   ├── BatchNotFound       BATCH_NOT_FOUND
    │   ├── BatchDeleted        BATCH_DELETED (while it was watched)
    │   └── DocumentNotFound    DOCUMENT_NOT_FOUND
    ├── ExistsError             the id is in use with different content
    │   ├── BatchExists         BATCH_EXISTS
    │   └── DocumentExists      DOCUMENT_EXISTS
    ├── RefusedError            the state does not allow it; nothing was written
    │   ├── IllegalTransition   ILLEGAL_TRANSITION
    │   ├── StaleAttempt        STALE_ATTEMPT
    │   ├── BatchSealed         BATCH_SEALED
    │   └── DocumentTaken       DOCUMENT_TAKEN
    ├── HistoryError            a watch cannot resume from its token
    │   ├── TokenExpired        TOKEN_EXPIRED
    │   └── HistoryChanged      HISTORY_CHANGED
    ├── RetryableError          temporary; retry after `retry_after_s`
    │   ├── ExhaustedError      the caller exceeds a limit
    │   │   ├── WatchLimit      WATCH_LIMIT
    │   │   ├── SlowReader      SLOW_READER
    │   │   └── SlowSender      SLOW_SENDER
    │   └── Unavailable         UNAVAILABLE: the server cannot serve the request now
    │       ├── Draining        DRAINING
    │       ├── WatchExpired    WATCH_EXPIRED
    │       ├── StoreBusy       STORE_BUSY
    │       └── StoreTimeout    STORE_TIMEOUT
    ├── TimedOut                TIMED_OUT: made by a client that waited for long enough
    ├── Stopped                 STOPPED: made by a reporter, to end the work on a document
    ├── NotDelivered            NOT_DELIVERED: made by a strict reporter
    ├── CallFailed              any other failure of a call, in a client; its reason is a gRPC code
    └── StartError              the server cannot start; shown on the terminal only

Each transport has one table from these classes to its codes. The Python client raises the same
classes; `restored` makes them from what it receives.
"""

from __future__ import annotations

from typing import Any, TypeVar

from stagecast.escaping import quote

E = TypeVar("E", bound="StagecastError")


class StagecastError(Exception):
    """Base class of all errors; its text is a sentence for people.

    Attributes:
        reason: for programs, such as `BATCH_NOT_FOUND`.
        metadata: the ids and values that the error is about, by name.
    """

    reason: str

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in metadata.items()}

    @property
    def dataset_id(self) -> str | None:
        """The dataset that the error is about, if it names one."""
        return self.metadata.get("dataset_id")

    @property
    def batch_id(self) -> str | None:
        """The batch that the error is about, if it names one."""
        return self.metadata.get("batch_id")

    @property
    def document_id(self) -> str | None:
        """The document that the error is about, if it names one."""
        return self.metadata.get("document_id")

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (type(self), str(self), self.__dict__)


def restored(kind: type[E], message: str, attributes: dict[str, Any]) -> E:
    """Return an error with a message and attributes, whatever its class is made from."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class CredentialsError(StagecastError):
    """The caller is unknown. Messages and `metadata` never show more of a key than its prefix."""


class CredentialsMissing(CredentialsError):
    """Credentials are required, and the call has none."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(CredentialsError):
    """The credentials are malformed, forged, unknown or revoked."""

    reason = "CREDENTIALS_INVALID"


class CredentialsExpired(CredentialsError):
    """The credentials have expired."""

    reason = "CREDENTIALS_EXPIRED"


class DeniedError(StagecastError):
    """The caller is known, but lacks permission."""


class ScopeMissing(DeniedError):
    """The credentials lack the scope of the called service."""

    reason = "SCOPE_MISSING"


class InvalidError(StagecastError):
    """The request breaks a rule; nothing was written. `field` is the path of the invalid field.

    It is empty for a report, or another entry, that is invalid as a whole.
    """

    def __init__(self, field: str, rule: str, **metadata: object) -> None:
        super().__init__(f"{field}: {rule}" if field else rule, field=field, **metadata)
        self.field = field
        self.rule = rule


class FieldInvalid(InvalidError):
    """A field breaks its rule."""

    reason = "FIELD_INVALID"


class TokenInvalid(InvalidError):
    """A resume token is malformed or of another batch."""

    reason = "TOKEN_INVALID"


class NotFoundError(StagecastError):
    """The request names something that does not exist or is not visible to the caller."""


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
    """The batch was deleted during a watch or wait."""

    reason = "BATCH_DELETED"

    def __init__(self, dataset_id: str, batch_id: str) -> None:
        super().__init__(
            f"batch {quote(batch_id)} of dataset {quote(dataset_id)} was deleted",
            dataset_id=dataset_id,
            batch_id=batch_id,
        )


class DocumentNotFound(NotFoundError):
    """There is no such document.

    `similar`: an id that differs only in Unicode normalisation, and its normal form.
    """

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
                f"; document {quote(similar_id)} differs only in Unicode normalisation ({form})"
            )
            metadata["similar_document_id"] = similar_id
        super().__init__(message, **metadata)


class ExistsError(StagecastError):
    """The id is in use with different content."""


class BatchExists(ExistsError):
    """The batch was created with different content."""

    reason = "BATCH_EXISTS"


class DocumentExists(ExistsError):
    """The document was registered with different content."""

    reason = "DOCUMENT_EXISTS"


class RefusedError(StagecastError):
    """The state does not allow it; nothing was written."""


class IllegalTransition(RefusedError):
    """The document is terminal, and the report is neither a repeat nor out of date."""

    reason = "ILLEGAL_TRANSITION"


class StaleAttempt(RefusedError):
    """The report names an attempt older than the current one."""

    reason = "STALE_ATTEMPT"


class BatchSealed(RefusedError):
    """The batch is sealed: no documents can be added."""

    reason = "BATCH_SEALED"


class DocumentTaken(RefusedError):
    """The document is not PENDING, and the call asked for it only if it is."""

    reason = "DOCUMENT_TAKEN"


class HistoryError(StagecastError):
    """A watch cannot resume from its token."""


class TokenExpired(HistoryError):
    """The history after the token is no longer retained."""

    reason = "TOKEN_EXPIRED"


class HistoryChanged(HistoryError):
    """The token belongs to another history."""

    reason = "HISTORY_CHANGED"


class RetryableError(StagecastError):
    """A temporary failure; the call can be retried after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_after_s = retry_after_s


class ExhaustedError(RetryableError):
    """The caller exceeds a limit."""


class WatchLimit(ExhaustedError):
    """The caller, or the server, has the maximum number of watches open."""

    reason = "WATCH_LIMIT"


class SlowReader(ExhaustedError):
    """The client did not read its messages in time."""

    reason = "SLOW_READER"


class SlowSender(ExhaustedError):
    """The client did not send its request in time."""

    reason = "SLOW_SENDER"


class Unavailable(RetryableError):
    """The server cannot serve the request now, or a client cannot reach it."""

    reason = "UNAVAILABLE"


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class WatchExpired(Unavailable):
    """The watch reached its maximum lifetime; reconnecting spreads watches over servers."""

    reason = "WATCH_EXPIRED"


class StoreBusy(Unavailable):
    """The store cannot be read or written at the moment."""

    reason = "STORE_BUSY"


class StoreTimeout(Unavailable):
    """The store did not answer in time, e.g. a disk hangs; a write may still be recorded."""

    reason = "STORE_TIMEOUT"


class TimedOut(StagecastError, TimeoutError):
    """What a client waited for has not happened in time."""

    reason = "TIMED_OUT"


class Stopped(StagecastError):
    """Work on a document is to end: it was stopped, it has ended, or another worker has it."""

    reason = "STOPPED"


class NotDelivered(StagecastError):
    """Reports could not be delivered, or not in time."""

    reason = "NOT_DELIVERED"


class CallFailed(StagecastError):
    """A call failed in a way that has no class of its own, such as a bug or a foreign server."""

    reason = "UNKNOWN"


class StartError(StagecastError):
    """The server cannot start, e.g. because of an invalid address or a file of another program."""

    reason = "START_ERROR"
