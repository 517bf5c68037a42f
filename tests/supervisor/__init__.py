"""Tests of several server processes."""
