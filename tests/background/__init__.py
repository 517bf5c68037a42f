"""Tests of what a server does by itself."""
