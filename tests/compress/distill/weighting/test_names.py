from __future__ import annotations

import pytest
from edgelathe.compress.distill.weighting.names import WEIGHTINGS, check_weighting, stated_alpha
from edgelathe.errors import EdgeLatheError


def test_every_rule_has_an_alpha_of_its_own_unless_it_is_stated() -> None:
    assert {weighting: stated_alpha(weighting, None) for weighting in WEIGHTINGS} == {
        "fixed": 0.9, "accuracy": 0.5, "confidence": 0.9, "agreement": 0.9, "entropy": 0.9, "gap": 0.5,
    }  # fmt: skip
    assert {stated_alpha(weighting, 0.3) for weighting in WEIGHTINGS} == {0.3}


def test_what_can_be_meant_is_accepted() -> None:
    check_weighting("fixed", 1.0, 0.1, 0.9, None)
    check_weighting("gap", None, 0.0, 1.0, None)
    check_weighting("entropy", 0.5, 0.5, 0.5, None)
    check_weighting("accuracy", None, 0.1, 0.9, 0.944)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("confident", None, 0.1, 0.9, None), 'Unknown weighting "confident": did you mean "confidence"?'),
        (("gap", 1.5, 0.1, 0.9, None), "Cannot use alpha = 1.5: it must be between 0 and 1."),
        (("gap", None, -0.1, 0.9, None), "Cannot use alpha_min = -0.1: it must be between 0 and 1."),
        (("gap", None, 0.5, 0.4, None), "Cannot use alpha_max = 0.4: it must be between alpha_min = 0.5 and 1."),
        (
            ("gap", None, 0.5, float("nan"), None),
            "Cannot use alpha_max = nan: it must be between alpha_min = 0.5 and 1.",
        ),
        (
            ("accuracy", None, 0.1, 0.9, 94.0),
            "Cannot use teacher_accuracy = 94.0: it must be a share above 0, 1 at most.",
        ),
        (
            ("gap", None, 0.1, 0.9, 0.94),
            'Cannot use teacher_accuracy = 0.94 with weighting = "gap": only accuracy reads it; leave it out or '
            "choose another weighting.",
        ),
        (
            ("fixed", None, 0.2, 0.9, None),
            'Cannot use alpha_min = 0.2 with weighting = "fixed": only accuracy, confidence, agreement, entropy, gap '
            "read it; leave it out or choose another weighting.",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: tuple, message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        check_weighting(*settings)
    assert str(caught.value).startswith(message)
