"""Requests to etcd, encoded by hand: a watched key, with a value as large as a transition."""

from __future__ import annotations

PUT = "/etcdserverpb.KV/Put"
WATCH = "/etcdserverpb.Watch/Watch"

# The last event of a watch ends with it.
LAST = b"the last value!!"

_KEY = b"bench"
_VALUE_BYTES = 150  # a transition has about as many


def put(value: bytes = b"") -> bytes:
    """Return the request that sets the key to a value that ends with `value`."""
    return _field(1, _KEY) + _field(2, value.rjust(_VALUE_BYTES, b"."))


def watch() -> bytes:
    """Return the request to watch the key."""
    return _field(1, _field(1, _KEY))


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of protobuf, with a length of one or two bytes."""
    length = len(content)
    size = bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))
    return bytes((number << 3 | 2,)) + size + content
