"""stagecast: workers report the stages of documents, clients watch every transition.

A pipeline reports with `batch`, or with a `Reporter` or `AsyncReporter`. Everything else is done
with `Client`, which is for threads, or `AsyncClient`, which has the same methods with `await`.
`help(stagecast.Reporter)` and `help(stagecast.Client)` are the manuals. Errors are below
`StagecastError`.

The public names are those of `stagecast.client.api`. They are imported when the first is used, so
that `import stagecast` alone loads neither gRPC nor protobuf.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stagecast.client.api import *  # noqa: F403 - all that `__getattr__` returns


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of any type
    """Return a public name."""
    if name == "__all__" or not (name.startswith("__") or _is_module(name)):
        api = import_module("stagecast.client.api")
        if name == "__all__" or name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'stagecast' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("stagecast.client.api").__all__})


def _is_module(name: str) -> bool:
    """Return whether `from stagecast import` of a name is to import a module."""
    return find_spec(f"stagecast.{name}") is not None
