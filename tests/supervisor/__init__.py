"""Tests of several server processes and their supervisor."""
