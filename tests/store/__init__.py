"""Tests of the store: the contract that all pass, and what is each one's own."""

from __future__ import annotations

import pytest

for part in ("deletion", "lists", "records", "transactions"):
    pytest.register_assert_rewrite(f"tests.store.{part}")
