"""Principals and their permissions: scopes, API keys, visible datasets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Visibility:
    """The ids of the datasets that a caller can see; `None` is all of them."""

    dataset_ids: frozenset[str] | None

    def includes(self, dataset_id: str) -> bool:
        """Return whether a dataset is one of them."""
        return self.dataset_ids is None or dataset_id in self.dataset_ids


ALL = Visibility(None)


class Scope(StrEnum):
    """A permission; none includes another."""

    READ = "read"  # StatusService and the REST paths
    REPORT = "report"  # ReportService
    CONTROL = "control"  # ControlService


@dataclass(frozen=True, kw_only=True, slots=True)
class NewKey:
    """An API key to store.

    `prefix` is the public part of the key and names it in logs; `digest` is the SHA-256 of the
    whole key, which itself is not stored.
    """

    prefix: str
    digest: bytes = field(repr=False)
    name: str
    scopes: frozenset[Scope]
    visible: Visibility
    expires_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey(NewKey):
    """A stored key; an `id` is never reused."""

    id: int
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """The authenticated identity behind a credential.

    Attributes:
        name: for logs and messages.
        identity: unique; `None` if unknown.
        scopes: the permissions.
        visible: the visible datasets.
        expires_at: when the credential expires, by the server's clock.
        key_id: the id of the API key, if the credential is one.
    """

    name: str
    identity: str | None = None
    scopes: frozenset[Scope]
    visible: Visibility
    expires_at: int | None = None
    key_id: int | None = None


ANONYMOUS = Principal(name="anonymous", scopes=frozenset(Scope), visible=ALL)
"""The principal of every call while authentication is off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The caller of an RPC or REST request.

    `check` raises if the credential is no longer valid: long-running calls repeat it.
    """

    principal: Principal
    check: Callable[[], None] = lambda: None

    @property
    def visible(self) -> Visibility:
        """The visible datasets."""
        return self.principal.visible
