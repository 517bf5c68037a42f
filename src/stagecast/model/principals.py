"""Who asks, and what they may: scopes, keys, principals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Visibility:
    """The datasets that exist for a caller, by their ids; `None` is all of them."""

    dataset_ids: frozenset[str] | None

    def only(self, dataset_id: str) -> Visibility:
        """Return what is left of one dataset: the same for all who may see it."""
        one = frozenset((dataset_id,))
        return Visibility(one if self.dataset_ids is None else one & self.dataset_ids)


ALL = Visibility(None)


class Scope(StrEnum):
    """What somebody may do; one does not include another."""

    READ = "read"  # StatusService and the REST paths
    REPORT = "report"  # ReportService
    CONTROL = "control"  # ControlService


@dataclass(frozen=True, kw_only=True, slots=True)
class NewKey:
    """What a key is to allow.

    `prefix` is the part of the key that everybody may see, and names it in logs; `digest` is the
    SHA-256 of the whole, which is all that is kept of the rest.
    """

    prefix: str
    digest: bytes = field(repr=False)
    name: str
    scopes: frozenset[Scope]
    visible: Visibility
    expires_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey(NewKey):
    """A key as it is kept; `id` is never given to another."""

    id: int
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Whom a credential stands for.

    Attributes:
        name: for logs and messages.
        identity: what no other has; `None` if nobody can tell.
        scopes: what they may do.
        visible: the datasets that exist for them.
        expires_at: when the credential ends, by the server's clock.
        key_id: the key that the credential is, if it is one.
    """

    name: str
    identity: str | None = None
    scopes: frozenset[Scope]
    visible: Visibility
    expires_at: int | None = None
    key_id: int | None = None


ANYBODY = Principal(name="anybody", scopes=frozenset(Scope), visible=ALL)
"""Who asks while no credentials are wanted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who makes a call.

    `check` raises what the next call would be told if the principal may not go on: for calls that
    last.
    """

    principal: Principal
    check: Callable[[], None] = lambda: None

    @property
    def visible(self) -> Visibility:
        """The datasets that exist for them."""
        return self.principal.visible
