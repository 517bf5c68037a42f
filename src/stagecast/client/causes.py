"""Sentences for failed calls that stagecast gave no reason for: what has happened, and why."""

from __future__ import annotations

import errno
import os
import re

import grpc

from stagecast.failures import reason_of

_NOT_REACHED = re.compile("failed to connect|errors resolving")
_HTTP_STATUS = re.compile(r"Received http2 :?(?:status )?header with status: (\d+)")
_BROKEN_OFF = re.compile(
    "^(Socket closed|Stream removed|No status received|Stream refused by server)"
    "|GOAWAY|RST_STREAM|Connection reset by peer|Broken pipe|(keepalive|ping).*timeout",
    re.IGNORECASE,
)

# Error texts of grpc, and what they mean; a question where the cause is not certain. The options
# are those of a command, or arguments.
_CAUSES = {
    "CERTIFICATE_VERIFY_FAILED: ([a-z ]+)": r": its certificate is not trusted (\1)",
    "Hostname Verification Check": ": its certificate is for another host",
    "WRONG_VERSION_NUMBER": ": it does not use TLS; leave out {tls}, {ca} and {cert}",
    r"Failed parsing HTTP/2|http1\.x server|ALPN": (
        ": it does not speak gRPC; is it the server's HTTP port?"
    ),
    r"HTTP proxy returned response code (\d+)": (
        r": the proxy of the environment answered with HTTP status \1"
    ),
    "Domain name not found|Name or service not known": ": there is no such host",
    "lookup failed": ": the host name cannot be looked up",
    "error: No such file or directory": ": there is no such file",
    "error: Permission denied": ": permission denied",
    "Connection refused": ": connection refused; is a server running there?",
}
_CLOSED = {
    False: ": it closed the connection; does it require TLS ({tls} or {ca}), or a client "
    "certificate ({cert})?",
    True: ": it closed the connection; does it require a client certificate ({cert}), or another?",
}


def describe_failure(
    code: grpc.StatusCode, details: str, address: str, *, tls: bool, flags: str = ""
) -> str:
    """Return a sentence for the status of a call.

    Args:
        code: of the status.
        details: of the status.
        address: of the server.
        tls: whether the call was made with TLS.
        flags: what comes before the names of options, such as `--`.
    """
    if code is grpc.StatusCode.UNAVAILABLE and _NOT_REACHED.match(details):
        return f"cannot reach {address}{_cause(details, tls=tls, flags=flags)}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {address} in time"
    if answered := _HTTP_STATUS.search(details):
        return f"{address} answered with HTTP status {answered[1]} instead of gRPC; is it a proxy?"
    if code is not grpc.StatusCode.CANCELLED and _BROKEN_OFF.search(details):
        return f"the connection to {address} ended before the answer was complete"
    # Not 'answered': the client library makes some of these itself.
    return f"the call to {address} failed with {code.name}: {details}"


def _cause(details: str, *, tls: bool, flags: str) -> str:
    if os.strerror(errno.EMFILE) in details:
        return f": {reason_of(OSError(errno.EMFILE, details))}"
    options = {name: flags + name for name in ("tls", "ca", "cert")}
    for pattern, cause in _CAUSES.items():
        if match := re.search(pattern, details):
            return match.expand(cause.format(**options))
    return _CLOSED[tls].format(**options) if "Socket closed" in details else ""
