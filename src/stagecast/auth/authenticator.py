"""Authentication: turns the credentials of a call into a principal or an error.

Credentials are required once there is a key in the store or a key for tokens, or if the server was
started with them required; from then on for as long as it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from stagecast.auth.key_cache import KeyCache
from stagecast.auth.secret import digest_of, prefix_of
from stagecast.auth.tokens import TokenVerifier
from stagecast.errors import (
    CredentialsError,
    CredentialsExpired,
    CredentialsInvalid,
    CredentialsMissing,
    DeniedError,
    ScopeMissing,
)
from stagecast.escaping import quote
from stagecast.model import ANONYMOUS, ApiKey, Caller, Principal, Scope

_BLANKS = " \t"  # of HTTP; no-break spaces belong to the value


def bearer_of(header: str) -> str | None:
    """Return the credential of a Bearer header; `None` if the scheme is another."""
    scheme, _, credential = header.strip(_BLANKS).partition(" ")
    return credential.strip(_BLANKS) if scheme.lower() == "bearer" else None


class Authenticator:
    """Identifies callers by their credentials.

    Args:
        key_cache: the keys.
        verifier: for tokens, if there is a key for them.
        clock: microseconds since the epoch.
        required: whether credentials are required even while there is no key.
    """

    def __init__(
        self,
        key_cache: KeyCache,
        *,
        verifier: TokenVerifier | None,
        clock: Callable[[], int],
        required: bool,
    ) -> None:
        self._key_cache = key_cache
        self._verifier = verifier
        self._clock = clock
        self._required = required
        self._anonymous = self._caller(ANONYMOUS)

    @property
    def on(self) -> bool:
        """Whether credentials are required."""
        return self._required or self._verifier is not None or self._key_cache.used

    def needs_credentials(self) -> bool:
        """Return whether credentials are required, by the keys as they are now."""
        self._key_cache.refresh()
        return self.on

    def admit(
        self,
        read_credentials: Callable[[], Sequence[str]],
        scope: Scope,
        *,
        store_version: int | None = None,
    ) -> Caller:
        """Return the caller, by the keys as they are now.

        The first valid credential with the scope decides.

        Args:
            read_credentials: called only if credentials are required; otherwise malformed headers
                are ignored.
            scope: what the call needs.
            store_version: of the store now, if it is known.

        Raises:
            CredentialsMissing, CredentialsInvalid, CredentialsExpired: no credential is valid.
            ScopeMissing: no valid credential has the scope.
        """
        self._key_cache.refresh(store_version)
        return self._identify(read_credentials(), scope) if self.on else self._anonymous

    def _identify(self, credentials: Sequence[str], scope: Scope) -> Caller:
        refusal: CredentialsError | DeniedError | None = None
        for credential in credentials:
            try:
                principal = self._recognise(credential)
                _check_scope(principal, scope)
            except (CredentialsError, DeniedError) as error:
                # A missing scope says more to the caller than another, invalid credential.
                refusal = error if isinstance(error, DeniedError) else refusal or error
            else:
                return self._caller(principal)
        raise refusal or _missing()

    def _caller(self, principal: Principal) -> Caller:
        return Caller(principal=principal, check=partial(self._check, principal))

    def _recognise(self, credential: str) -> Principal:
        key = self._key_cache.find(digest_of(credential))
        if key is not None:
            principal = _principal_of(key)
        elif self._verifier is not None and prefix_of(credential) is None:
            principal = self._verifier.verify(credential)
        else:
            raise CredentialsInvalid(
                "unknown key; 'stagecast keys list' shows the known ones, on the server's machine"
            )
        self._check(principal)
        return principal

    def _check(self, principal: Principal) -> None:
        """Check that a principal is still valid.

        Raises:
            CredentialsMissing, CredentialsInvalid, CredentialsExpired: it is not.
        """
        if principal is ANONYMOUS:
            if self.on:
                raise _missing()
            return
        if principal.key_id is not None:
            key = self._key_cache.get(principal.key_id)
            if key is None or key.revoked_at is not None:
                raise CredentialsInvalid(f"{principal.name} was revoked")
        if principal.expires_at is not None and self._clock() >= principal.expires_at:
            raise CredentialsExpired(f"{principal.name} has expired")


def _principal_of(key: ApiKey) -> Principal:
    named = f" ({key.name})" if key.name else ""
    return Principal(
        name=f"key {key.prefix}{named}",
        identity=f"key {key.id}",
        scopes=key.scopes,
        visible=key.visible,
        expires_at=key.expires_at,
        key_id=key.id,
    )


def _check_scope(principal: Principal, scope: Scope) -> None:
    if scope not in principal.scopes:
        raise ScopeMissing(f"{principal.name} has no scope {quote(scope.value)}", scope=scope.value)


def _missing() -> CredentialsMissing:
    return CredentialsMissing(
        "missing credentials; send 'authorization: Bearer KEY' or 'x-api-key: KEY'"
    )
