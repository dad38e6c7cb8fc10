from __future__ import annotations

import copy

import pytest
import torch
from edgelathe.errors import EdgeLatheError
from edgelathe.models import attention
from edgelathe.models.attention import NarrowMultiheadAttention, attentions, head_kind, keep_heads, silence_heads
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ..transformers import KINDS, build, images

TOLERANCE = 1e-5
"""Of the largest output: the same sums in another order."""


def _close(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=0, atol=TOLERANCE * float(wanted.abs().max()))


@pytest.mark.parametrize("name", KINDS)
def test_narrow_type_computes_the_same_while_no_head_is_gone(name: str) -> None:
    model = build(name)
    narrow = copy.deepcopy(model)
    for module in attentions(narrow).values():
        kind = head_kind(module)
        assert kind is not None
        module.__class__ = kind.narrow
    with torch.no_grad():
        assert _close(narrow(images()), model(images()))


@pytest.mark.parametrize("name", ["swin", "swin_v2"])
@pytest.mark.parametrize("size", [(36, 32), (40, 72), (16, 48)])
def test_windows_that_do_not_fill_the_map(name: str, size: tuple[int, int]) -> None:
    # 36/4 = 9 rows need padding to 12; a map of 16/4 = 4 rows is one window high, so only columns are shifted.
    model = build(name)
    narrow = copy.deepcopy(model)
    for module in attentions(narrow).values():
        keep_heads(module, torch.arange(1, attention.heads(module)))
        assert attention.is_narrow(module)
    for module in attentions(model).values():
        silence_heads(module, torch.tensor([0]))
    with torch.no_grad():
        assert _close(narrow(images(2, *size)), model(images(2, *size)))


@pytest.mark.parametrize("name", KINDS)
def test_network_without_heads_equals_the_whole_one_in_which_nothing_reads_them(name: str) -> None:
    model = build(name)
    cut, silent = copy.deepcopy(model), copy.deepcopy(model)
    for before, after in zip(attentions(silent).values(), attentions(cut).values(), strict=True):
        count, dim, embed = attention.heads(before), attention.head_dim(before), attention.embed_dim(before)
        size = attention.parameters_of_heads(before)
        keep_heads(after, torch.arange(0, count, 2))
        silence_heads(before, torch.arange(1, count, 2))
        found = attention.heads(after), attention.head_dim(after), attention.embed_dim(after)
        assert found == (count // 2, dim, embed)
        assert attention.parameters_of_heads(after) == size // 2
    with torch.no_grad():
        wanted = silent(images())
        assert _close(cut(images()), wanted)
        assert not _close(model(images()), wanted)


def test_heads_by_hand() -> None:
    module = nn.MultiheadAttention(4, 2, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.arange(48.0).reshape(12, 4))
    rows = attention.head_rows(module)
    # Head 1 of two: rows 2 and 3 of query, 6 and 7 of key, 10 and 11 of value, four numbers each.
    assert rows[1].tolist() == [*range(8, 16), *range(24, 32), *range(40, 48)]
    out = module.out_proj.weight.detach().clone()
    keep_heads(module, torch.tensor([1]))
    assert module.in_proj_weight[:, 0].tolist() == [8, 12, 24, 28, 40, 44]
    assert torch.equal(module.out_proj.weight, out[:, 2:])
    assert (module.num_heads, module.out_proj.in_features, type(module)) == (1, 2, NarrowMultiheadAttention)
    assert attention.parameters_of_heads(module) == 6 * 4 + 6 + 4 * 2


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_across_two_sequences(batch_first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 4, bias=bias, batch_first=batch_first).eval()
    query, key, value = torch.randn(2, 5, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 8)
    if not batch_first:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    cut = copy.deepcopy(module)
    keep_heads(cut, torch.tensor([0, 3]))
    silence_heads(module, torch.tensor([1, 2]))
    with torch.no_grad():
        assert _close(cut(query, key, value)[0], module(query, key, value)[0])
        axis = 0 if batch_first else 1
        single = cut(*(each.select(axis, 1) for each in (query, key, value)))[0]
        assert _close(single, cut(query, key, value)[0].select(axis, 1))


def test_torch_encoder_layer_takes_no_short_cut_past_fewer_heads() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True).eval()
    cut = copy.deepcopy(layer)
    keep_heads(cut.self_attn, torch.tensor([1, 2, 3]))
    silence_heads(layer.self_attn, torch.tensor([0]))
    with torch.no_grad():
        assert _close(cut(torch.ones(2, 5, 8).cumsum(1)), layer(torch.ones(2, 5, 8).cumsum(1)))


def test_masks_are_refused() -> None:
    module = nn.MultiheadAttention(8, 4, batch_first=True)
    keep_heads(module, torch.tensor([0]))
    x = torch.zeros(1, 3, 8)
    with pytest.raises(EdgeLatheError, match=r"Cannot run attention that has lost heads with a mask: .*\(ignore\)\."):
        module(x, x, x, attn_mask=torch.zeros(3, 3))


def test_attention_whose_heads_cannot_be_cut() -> None:
    other = nn.MultiheadAttention(8, 4, kdim=6)
    assert attention.refusal(other, "a") == "a projects keys or values of another width"
    extra = nn.MultiheadAttention(8, 4, add_zero_attn=True)
    assert attention.refusal(extra, "a") == "a attends to more than its inputs (add_bias_kv or add_zero_attn)"
    computed = nn.MultiheadAttention(8, 4)
    parametrizations.weight_norm(computed.out_proj)
    assert attention.refusal(computed, "a") == "the weights of a are computed from others (parametrized)"
    assert attention.refusal(nn.MultiheadAttention(8, 4), "a") == ""


def test_a_forward_of_the_users_own_is_left_to_the_user() -> None:
    class Own(nn.MultiheadAttention):
        pass

    assert head_kind(Own(8, 4)) is None
    assert head_kind(nn.Linear(8, 4)) is None


def test_all_heads_kept_changes_nothing() -> None:
    module = nn.MultiheadAttention(8, 4)
    weight = module.in_proj_weight
    keep_heads(module, torch.arange(4))
    assert type(module) is nn.MultiheadAttention and module.in_proj_weight is weight


def test_training_drops_attention_as_before_and_frozen_weights_stay_frozen() -> None:
    module = nn.MultiheadAttention(8, 4, dropout=0.5, batch_first=True).requires_grad_(False)
    keep_heads(module, torch.tensor([0, 1]))
    assert not any(parameter.requires_grad for parameter in module.parameters())
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    first, second = module.train()(x, x, x)[0], module(x, x, x)[0]
    assert not torch.equal(first, second)
    assert torch.equal(module.eval()(x, x, x)[0], module(x, x, x)[0])


@pytest.mark.parametrize("name", KINDS)
def test_settled_biases_change_nothing(name: str) -> None:
    model = build(name)
    settled = copy.deepcopy(model)
    attention.settle_biases(settled)
    with torch.no_grad():
        assert _close(settled(images()), model(images()))
    assert settled.state_dict().keys() == model.state_dict().keys()
