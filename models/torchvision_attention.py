"""The attention of torchvision's Swin transformers and MaxViT once it has lost heads.

The originals take head_dim to be the width of their input over the number of heads. These compute the same with
head_dim read from the weights.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from .heads import HeadKind, HeadTensor, Met

_FURTHEST_LOGIT_SCALE = math.log(100.0)
_OTHER_REGION = -100.0
"""Added to scores between pixels that the cyclic shift brought together (torchvision's value)."""


class NarrowWindowAttention(ShiftedWindowAttention):
    """Shifted window attention (Liu et al. 2021) with fewer heads than its width over head_dim."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N, H, W, C] -> the same shape."""
        height, width = x.shape[1:3]
        rows, columns = self.window_size
        if width % columns or height % rows:
            x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        shift = [
            0 if window >= size else by
            for window, size, by in zip(self.window_size, x.shape[1:3], self.shift_size, strict=True)
        ]
        x = x.roll((-shift[0], -shift[1]), (1, 2)) if any(shift) else x
        windows = x.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)
        tokens = windows.flatten(3, 4)  # [N, windows down, windows across, pixels, C]
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(3, 4)  # [N, down, across, heads, pixels, head_dim]
            for part in F.linear(tokens, self.qkv.weight, self._bias()).chunk(3, dim=-1)
        )
        scores = self._scores(query, key) + self.get_relative_position_bias()
        scores = scores + self._regions(x, shift) if any(shift) else scores
        weights = F.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        attended = (weights @ value).transpose(3, 4).flatten(4)
        merged = F.dropout(self.proj(attended), self.dropout, self.training)
        x = merged.unflatten(3, (rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        x = x.roll((shift[0], shift[1]), (1, 2)) if any(shift) else x
        return x[:, :height, :width].contiguous()

    def _bias(self) -> Tensor | None:
        return self.qkv.bias

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        return (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)

    def _regions(self, x: Tensor, shift: list[int]) -> Tensor:
        """[windows down, windows across, 1, pixels, pixels]: what keeps apart pixels that were no neighbours."""
        size, window = x.shape[1:3], self.window_size
        bands = [
            torch.tensor([0] * (s - w) + [1] * (w - by) + [2] * by, device=x.device).view(-1, w)
            for s, w, by in zip(size, window, shift, strict=True)
        ]
        regions = (3 * bands[0][:, None, :, None] + bands[1][None, :, None, :]).flatten(2)
        apart = (regions[..., :, None] - regions[..., None, :]).abs().clamp(max=1)
        return (apart * _OTHER_REGION).to(x.dtype)[:, :, None]


class NarrowWindowAttentionV2(ShiftedWindowAttentionV2, NarrowWindowAttention):
    """The same by cosine (Liu et al. 2022, Swin V2)."""

    forward = NarrowWindowAttention.forward

    def _bias(self) -> Tensor | None:
        bias = self.qkv.bias
        if bias is None:
            return None
        each = len(bias) // 3
        without_keys = [1.0] * each + [0.0] * each + [1.0] * each
        return bias * torch.tensor(without_keys, dtype=bias.dtype, device=bias.device)

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        cosine = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        return cosine * self.logit_scale.clamp(max=_FURTHEST_LOGIT_SCALE).exp()


class NarrowPartitionAttention(RelativePositionalMultiHeadAttention):
    """MaxViT's attention (Tu et al. 2022) with fewer heads than its width over head_dim."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N, partitions, pixels, C] -> the same shape."""
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(2, 3)  # [N, partitions, heads, pixels, head_dim]
            for part in self.to_qkv(x).chunk(3, dim=-1)
        )
        scores = query @ (key * self.scale_factor).transpose(-2, -1) + self.get_relative_positional_bias()
        return self.merge((scores.softmax(-1) @ value).transpose(2, 3).flatten(3))


def _meet_in_windows(module: ShiftedWindowAttention, x: Tensor) -> Met:
    rows, columns = module.window_size
    padded = len(x) * -(-x.shape[1] // rows) * -(-x.shape[2] // columns) * rows * columns
    return Met(3 * padded * x.shape[3], padded, rows * columns)


def _meet_in_partitions(_: RelativePositionalMultiHeadAttention, x: Tensor) -> Met:
    return Met(3 * x.numel(), x[..., 0].numel(), x.shape[2])


_TABLE = HeadTensor("", "relative_position_bias_table", 1, 1)
_QKV, _QKV_BIAS = HeadTensor("qkv", "weight", 0, 3), HeadTensor("qkv", "bias", 0, 3)
_PROJ = HeadTensor("proj", "weight", 1, 1)

_BIAS = "get_relative_position_bias"

_WINDOWS = HeadKind("num_heads", _QKV, _PROJ, (_QKV_BIAS, _TABLE), NarrowWindowAttention, _meet_in_windows, _BIAS)
_COSINES = HeadKind(
    "num_heads",
    _QKV,
    _PROJ,
    (_QKV_BIAS, HeadTensor("", "logit_scale", 0, 1), HeadTensor("cpb_mlp.2", "weight", 0, 1)),
    NarrowWindowAttentionV2,
    _meet_in_windows,
    _BIAS,
)
_PARTITIONS = HeadKind(
    "n_heads",
    HeadTensor("to_qkv", "weight", 0, 3),
    HeadTensor("merge", "weight", 1, 1),
    (HeadTensor("to_qkv", "bias", 0, 3), _TABLE),
    NarrowPartitionAttention,
    _meet_in_partitions,
    "get_relative_positional_bias",
)

KINDS: dict[type[nn.Module], HeadKind] = {
    ShiftedWindowAttention: _WINDOWS,
    NarrowWindowAttention: _WINDOWS,
    ShiftedWindowAttentionV2: _COSINES,
    NarrowWindowAttentionV2: _COSINES,
    RelativePositionalMultiHeadAttention: _PARTITIONS,
    NarrowPartitionAttention: _PARTITIONS,
}
