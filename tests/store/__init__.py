"""Tests of the stores: the contract suite, and tests of each one."""

from __future__ import annotations

import pytest

for part in ("deletion", "lists", "records", "transactions"):
    pytest.register_assert_rewrite(f"tests.store.{part}")
