"""Incidents that the demo stages with its samples: a document stalls, another fails once."""

from __future__ import annotations

from threading import Event
from typing import Final

from stagecast.demo.stages import IngestionError

STALLS: Final = "samples/tides.txt"
FAILS: Final = "samples/onion-tart.md"


class Incidents:
    """The staged incidents of one run; the threads of the worker run into them.

    Attributes:
        stalled: set it once the document that hangs has stalled: then it goes on.
    """

    def __init__(self) -> None:
        self.stalled = Event()
        self._has_failed = False

    def happen(self, document_id: str) -> None:
        """Hang or fail, if that is staged for this document.

        Raises:
            IngestionError: it fails, the first time.
        """
        if document_id == STALLS:
            self.stalled.wait()
        if document_id == FAILS and not self._has_failed:
            self._has_failed = True
            raise IngestionError("MODEL_UNAVAILABLE", "the demo has made this up")
