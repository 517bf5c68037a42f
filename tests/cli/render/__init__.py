"""Tests of how commands show things."""
