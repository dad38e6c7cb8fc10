"""Small vision transformers of every kind of attention whose heads can be cut, with weights that all matter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

_WINDOWS = {"patch_size": [4, 4], "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 4], "window_size": [4, 4]}
_CLASSES = {"num_classes": 3}


def vit() -> nn.Module:
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, **_CLASSES
    )


def swin() -> nn.Module:
    return SwinTransformer(**_WINDOWS, **_CLASSES)


def swin_v2() -> nn.Module:
    return SwinTransformer(**_WINDOWS, **_CLASSES, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def maxvit() -> nn.Module:
    return MaxVit(
        input_size=(32, 32), stem_channels=8, partition_size=4, block_channels=[8], block_layers=[1],
        head_dim=4, stochastic_depth_prob=0.0, **_CLASSES,
    )  # fmt: skip


KINDS = {"vit": vit, "swin": swin, "swin_v2": swin_v2, "maxvit": maxvit}


def build(name: str) -> nn.Module:
    """A network of KINDS in eval mode; what would begin at zero, as ViT's last layer, is random too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = KINDS[name]().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def images(count: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))
