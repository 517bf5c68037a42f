"""Tests of the runtime of a process."""
