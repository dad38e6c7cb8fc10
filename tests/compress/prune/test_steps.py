from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.macs import count_macs
from edgelathe.compress.prune.steps import prune_in_steps, share_of_step
from edgelathe.errors import EdgeLatheError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def wide() -> nn.Module:
    torch.manual_seed(2)
    body = (nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 48, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(48, 4))


def test_each_step_is_recovered_and_leaves_its_share_of_the_whole(example: Tensor) -> None:
    model = wide()
    before, seen = state_sha256(model), []

    def recover(pruned: nn.Module) -> nn.Module:
        seen.append(count_macs(pruned, example)[0])
        with torch.no_grad():
            for parameter in pruned.parameters():
                parameter.add_(1.0)
        return pruned

    network, plans = prune_in_steps(model, example, recover=recover, steps=3, keep_macs=0.5)
    assert state_sha256(model) == before
    assert [plan.macs_after for plan in plans] == seen
    assert [plan.macs_before for plan in plans] == [count_macs(model, example)[0], *seen[:-1]]
    whole = plans[0].macs_before
    for step, macs in enumerate(seen, start=1):
        assert 0.5 ** (step / 3) - 0.03 < macs / whole <= 0.5 ** (step / 3)
    assert count_macs(network, example)[0] == seen[-1]
    head, last = (net.state_dict()["6.bias"] for net in (model, network))
    assert torch.allclose(last, head + 3), "each step goes on from what the one before recovered"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["Chain", "Residual", "Inverted"]),
    key=st.sampled_from(["keep_macs", "keep_params"]),
    keep=st.floats(0.4, 0.95),
    steps=st.integers(1, 4),
    multiple=st.sampled_from([1, 2, 3]),
)
def test_every_step_keeps_to_its_share_and_so_the_last_to_the_target(
    make: Make, example: Tensor, name: str, key: str, keep: float, steps: int, multiple: int
) -> None:
    model = make(name)
    place = ("keep_macs", "keep_params").index(key)

    left: list[float] = []

    def recover(network: nn.Module) -> nn.Module:
        left.append(count_macs(network, example)[place] / count_macs(model, example)[place])
        return network

    try:
        _, plans = prune_in_steps(model, example, recover=recover, steps=steps, multiple=multiple, **{key: keep})
    except EdgeLatheError as reason:
        assert "Cannot prune to" in str(reason)
        return
    assert len(plans) == len(left) == steps
    assert all(share <= keep ** (step / steps) + 1e-9 for step, share in enumerate(left, start=1))
    assert left[-1] <= keep
    for group in plans[-1].groups:
        assert group.reason or group.after % multiple == 0


def test_what_a_step_removed_beyond_its_share_is_left_to_the_next(make: Make, example: Tensor) -> None:
    model = make("Residual")
    macs = count_macs(model, example)[0]
    # 0.25 in two steps: 0.5, then 0.25 of the whole. A first step that went to a half exactly, or beyond it.
    whole = {"whole": model, "now": model, "example": example}
    assert share_of_step("keep_macs", 0.25, 1, 2, **whole) == 0.5  # type: ignore[arg-type]

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    now = Half()
    now.layer = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    left = count_macs(now, example)[0]
    assert left == 3 * 4 * 9 * 64
    found = share_of_step("keep_macs", 0.25, 2, 2, whole=model, now=now, example=example)
    assert found == min(1.0, 0.25 * macs / left)
    assert share_of_step("keep_macs", 0.9, 2, 2, whole=model, now=now, example=example) == 1.0


def test_latency_is_measured_of_the_whole_network_and_of_what_is_left(make: Make, example: Tensor) -> None:
    model, narrow = make("Residual"), make("Chain")
    milliseconds = {id(model): 8.0, id(narrow): 4.0}
    asked = []

    def measure(network: nn.Module) -> float:
        asked.append(network)
        return milliseconds[id(network)]

    share = share_of_step("keep_latency", 0.25, 3, 4, whole=model, now=narrow, example=example, measure=measure)
    assert share == pytest.approx(0.25 ** (3 / 4) * 2)
    assert asked == [model, narrow]
    with pytest.raises(EdgeLatheError, match="keep_latency"):
        share_of_step("keep_latency", 0.25, 2, 4, whole=model, now=narrow, example=example)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"Cannot use steps = 0: it must be 1 or more\."),
        ({"steps": 2, "keep_macs": 1.5}, "Cannot use keep_macs = 1.5"),
        ({"steps": 2, "keep_macs": 0.5, "keep_params": 0.5}, "keep_macs"),
    ],
)
def test_impossible_requests(make: Make, example: Tensor, settings: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        prune_in_steps(make("Chain"), example, recover=nn.Module.eval, **settings)  # type: ignore[arg-type]
