"""What a server does by itself: find stalled documents, trim, poll for changes, check readiness."""
