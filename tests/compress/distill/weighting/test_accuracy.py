from __future__ import annotations

import pytest
from edgelathe.compress.distill.weighting.accuracy import accuracy_share


def test_by_hand() -> None:
    assert accuracy_share(0.5, 1.0) == 0.5
    assert accuracy_share(0.5, 0.94) == pytest.approx(0.94 / 1.94)
    assert accuracy_share(0.5, 0.25) == pytest.approx(0.2)
    assert accuracy_share(0.9, 0.5) == pytest.approx(0.45 / 0.55)


def test_ends() -> None:
    assert accuracy_share(0.0, 0.9) == 0.0
    assert accuracy_share(1.0, 0.9) == 1.0
    assert accuracy_share(1.0, 0.0) == 0.0
