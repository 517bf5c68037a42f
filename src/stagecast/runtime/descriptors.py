"""The file descriptors of a server: connections take them, and the store needs some as well."""

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
    """Take all descriptors that the system grants; allow no more connections than they are for.

    Raises:
        StartError: they are too few for a server.
    """
    limit = take_descriptors("a server", _RESERVED + 2)
    room = (limit - _RESERVED) // 2  # gRPC and HTTP have as many connections each
    if limit == resource.RLIM_INFINITY or room >= config.max_connections:
        return config
    _log.warning(
        "the limit of open files is %d, so that gRPC and HTTP take %d connections each instead "
        "of %d; raise it with 'ulimit -n'",
        limit,
        room,
        config.max_connections,
    )
    return dataclasses.replace(config, max_connections=room)


def take_descriptors(what: str, needed: int) -> int:
    """Take all descriptors that the system grants, not the usual 1,024; return how many.

    Raises:
        StartError: they are fewer than are needed, for what is named.
    """
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS grants fewer than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < needed and limit != resource.RLIM_INFINITY:
        raise StartError(
            f"the limit of open files is {limit}, and {what} needs at least {needed}; raise it "
            "with 'ulimit -n'"
        )
    return limit
