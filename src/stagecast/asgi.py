"""What our HTTP server and its applications tell each other beyond ASGI."""

from __future__ import annotations

ON_DISCONNECT = "stagecast.on_disconnect"
"""In the `state` of a scope: what to call if the client disconnects before the answer ends."""

TIMED = "stagecast.timed"
"""In the start of a response of unknown length: the application itself limits how long its client
may not read. The server writes each part at once, waits after it until the client has read enough,
and writes the last part without waiting."""
