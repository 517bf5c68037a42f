"""Tests of the background tasks of a server."""
