"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real images and weights, named by EDGELATHE_TEST_DATA."""
    folder = os.environ.get("EDGELATHE_TEST_DATA")
    if not folder:
        pytest.skip("EDGELATHE_TEST_DATA does not name a folder of real images and weights")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"EDGELATHE_TEST_DATA names {folder}, which is no folder")
    return path.resolve()
