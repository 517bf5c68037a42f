"""Tests of the service modules."""
