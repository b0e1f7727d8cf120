"""All of these tests compile more than they compute."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _unoptimized(unoptimized: None) -> None:
    """See `unoptimized`."""
