"""Tests of the store: the contract that all pass, and what is each one's own."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.store.contract")
