"""Tests of the demo's pipeline."""
