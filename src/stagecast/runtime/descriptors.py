"""The limit of file descriptors, which connections and the store share."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import resource

from stagecast.config import Config
from stagecast.errors import StartError

_RESERVED = 100  # for the store, the event loops and the log

_log = logging.getLogger(__name__)


def fit_connections(config: Config) -> Config:
    """Raise the limit of open files to its maximum, and limit the connections to it.

    Raises:
        StartError: the limit is too low for a server.
    """
    limit = take_descriptors("a server", _RESERVED + 2)
    room = (limit - _RESERVED) // 2  # gRPC and HTTP have as many connections each
    if limit == resource.RLIM_INFINITY or room >= config.max_connections:
        return config
    _log.warning(
        "the limit of open files is %d: gRPC and HTTP accept %d connections each instead of %d; "
        "raise it with 'ulimit -n'",
        limit,
        room,
        config.max_connections,
    )
    return dataclasses.replace(config, max_connections=room)


def take_descriptors(user: str, needed: int) -> int:
    """Raise the limit of open files, usually 1,024, to its maximum, and return it.

    Raises:
        StartError: the limit is less than what `user` needs.
    """
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS allows less than its maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < needed and limit != resource.RLIM_INFINITY:
        raise StartError(
            f"the limit of open files is {limit}, and {user} needs at least {needed}; raise it "
            "with 'ulimit -n'"
        )
    return limit
