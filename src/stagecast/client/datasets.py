"""Names of datasets: a text that is not a UUID is a name, and stands for a UUID of its own.

Clients and commands take both. Servers know only the ids.
"""

from __future__ import annotations

import string
import unicodedata
import uuid
from typing import Final

from stagecast.client.arguments import refusal, text_of
from stagecast.escaping import quote

DATASET_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "stagecast")

_DIGITS = 32  # of a UUID
_MISTYPED = 2  # digits; a text that differs from a UUID in more is a name


def dataset_id(dataset: str | uuid.UUID) -> str:
    """Return the id of a dataset: a UUID in lower case, for any other text the UUIDv5 of that name.

    Names that look the same are the same: they are compared in their NFC form. A text that would
    be a UUID with one or two letters or digits changed, added or removed is refused as a mistyped
    UUID.

    Raises:
        TypeError: it is neither a text nor a UUID, such as `None` of a variable that is not set.
        ValueError: it is empty, not encodable as UTF-8, or a mistyped UUID.
    """
    if isinstance(dataset, uuid.UUID):
        return str(dataset)
    name = text_of("dataset", dataset, "a UUID or a name")
    if not name:
        raise ValueError(refusal("dataset", name, "a UUID or a name"))
    known = _uuid_of(name)
    if known is None and _is_mistyped(name):
        raise ValueError(
            f"invalid dataset {name!r}: mistyped UUID? One has {_DIGITS} hexadecimal digits, as in "
            "7c9e6679-7425-40de-944b-e07fc1f90ae7; a name must differ from one in more than two"
        )
    return str(known or uuid.uuid5(DATASET_NAMESPACE, unicodedata.normalize("NFC", name)))


def with_name(message: str, dataset: str | uuid.UUID | None) -> str:
    """Return a message of a server with the name of its dataset added before the id."""
    if not isinstance(dataset, str) or _uuid_of(dataset) is not None:
        return message
    known = dataset_id(dataset)
    return message.replace(f"'{known}'", f"{quote(dataset)} ({known})")


def _uuid_of(name: str) -> uuid.UUID | None:
    try:
        known = uuid.UUID(name)
    except ValueError:
        return None
    # `UUID` also accepts digits of other scripts, and underscores.
    return known if known.hex in name.replace("-", "").lower() else None


def _is_mistyped(name: str) -> bool:
    digits = [character for character in name if character.isalnum()]
    wrong = sum(character not in string.hexdigits for character in digits)
    return abs(len(digits) - _DIGITS) + wrong <= _MISTYPED
