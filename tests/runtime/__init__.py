"""Tests of what a process stands on."""
