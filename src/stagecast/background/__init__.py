"""Background tasks of a server: stall detection, retention, change polling, readiness."""
