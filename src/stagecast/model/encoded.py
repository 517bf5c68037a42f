"""Documents and transitions as they are sent: what the store keeps encoded, and what is added.

The ids of the batch are added as well, when they are sent. Only `wire` knows what the bytes mean.
"""

from __future__ import annotations

from typing import NamedTuple

_ADDED = 256  # the most that is added to the bytes: ids, numbers and times, tags and lengths


# The rows of the store as they are: records of them would cost a tenth of a list.
EncodedDocument = tuple[int, bytes]
"""The position of a document, and its fields but for the ids of its batch."""


class EncodedTransition(NamedTuple):
    """A transition with the encoded pieces of its document, `None` without one.

    The revision and time of the document are those of the transition.
    """

    revision: int
    write_id: int
    position: int | None
    kind: int
    previous_state: int | None
    previous_stage: int | None
    event_at: int | None
    committed_at: int
    identity: bytes | None
    condition: bytes | None


def document_size(document: EncodedDocument) -> int:
    """Return the maximum size in bytes of a document as an entry of a message."""
    return _ADDED + len(document[1])


def transition_size(transition: EncodedTransition) -> int:
    """Return the maximum size in bytes of a transition as an entry of a message."""
    identity, condition = transition[8], transition[9]  # in half the time of a slice
    if identity is None or condition is None:
        return _ADDED
    return _ADDED + len(identity) + len(condition)
