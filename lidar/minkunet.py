"""MinkUNet-18/34/50/101 and a small one for CPU: a table of stages and one loop.

After "4D Spatio-Temporal ConvNets" (Choy et al., CVPR 2019) in the form that image-to-LiDAR pretraining uses: two
3 x 3 x 3 convolutions as the stem, 2 x 2 x 2 convolutions down and up, and skips joined by concatenation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .conv import Convolution, DownConv, PointConv, SubMConv, UpConv
from .sparse import SparseTensor

Statistics = Literal["update", "batch", "running"]
# counters of batches that a network raises together when it is through: on a device one launch, not one a layer
_waiting: ContextVar[list[Tensor] | None] = ContextVar("waiting", default=None)


class Stage(NamedTuple):
    """A change of level and the residual blocks after it."""

    blocks: int
    channels: int
    stride: int  # 2 halves the grid; -2 doubles it and joins the features of the way down
    expansion: int = 1  # 1: two 3x3x3 convolutions a block; 4: bottleneck, four times as wide at its end


def _table(blocks: tuple[int, int, int, int], expansion: int = 1) -> tuple[Stage, ...]:
    down = [Stage(n, c, 2, expansion) for n, c in zip(blocks, (32, 64, 128, 256))]
    return *down, *(Stage(2, c, -2, expansion) for c in (256, 128, 96, 96))


# depth -> (channels of the stem, stages)
MINKUNET: dict[int | str, tuple[int, tuple[Stage, ...]]] = {
    "tiny": (
        16,
        (
            *(Stage(1, channels, 2) for channels in (24, 32, 48, 64)),
            *(Stage(1, channels, -2) for channels in (64, 48, 48, 48)),
        ),
    ),
    18: (32, _table((2, 2, 2, 2))),
    34: (32, _table((2, 3, 4, 6))),
    50: (32, _table((2, 3, 4, 6), expansion=4)),
    101: (32, _table((2, 3, 4, 23), expansion=4)),
}


class Norm(nn.BatchNorm1d):
    """Batch normalisation over voxels (V, C) that also takes clouds without voxels.

    With fewer than two rows there is no variance: training then normalises by the running statistics and leaves
    them unchanged. ``statistics`` says what training does otherwise, see ``use_statistics``.
    """

    statistics: Statistics = "update"

    def forward(self, features: Tensor) -> Tensor:
        from_batch = self.training and self.statistics != "running" and len(features) > 1
        update = from_batch and self.statistics == "update"
        momentum = self.momentum
        if update:
            tracked: Tensor = self.num_batches_tracked  # type: ignore[assignment]
            waiting = _waiting.get()
            if momentum is None:  # cumulative mean, to estimate the statistics anew
                momentum = 1.0 / float(tracked.add_(1))
            elif waiting is None:
                tracked.add_(1)
            else:
                waiting.append(tracked)
        return F.batch_norm(
            features,
            self.running_mean if update or not from_batch else None,
            self.running_var if update or not from_batch else None,
            self.weight,
            self.bias,
            from_batch,
            momentum or 0.0,
            self.eps,
        )


@contextmanager
def _counted_together() -> Iterator[None]:
    """Inside the block ``Norm`` layers leave their counters of batches as they are; at its end all are raised."""
    waiting: list[Tensor] = []
    before = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(before)
        if waiting:
            torch._foreach_add_(waiting, 1)


@contextmanager
def use_statistics(module: nn.Module, statistics: Statistics) -> Iterator[None]:
    """What the ``Norm`` layers of ``module`` normalise by inside the block, while in training mode.

    "update": the batch, and follow it in the running statistics (the default). "batch": the batch, without
    following it: a group of clouds unlike those of inference, such as dense ones, keeps statistics of its own.
    "running": the running statistics, as in evaluation.

    Raises:
        InputError: another word, or layers that were joined over processes and no longer know the difference.
    """
    if statistics not in ("update", "batch", "running"):
        raise InputError(f'statistics is {statistics!r}; choose "update", "batch" or "running"')
    if statistics != "update" and any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
        raise InputError("batch norm joined over processes has no statistics by group; leave out sync_bn")
    layers = [layer for layer in module.modules() if isinstance(layer, Norm)]
    before = [layer.statistics for layer in layers]
    for layer in layers:
        layer.statistics = statistics
    try:
        yield
    finally:
        for layer, value in zip(layers, before):
            layer.statistics = value


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, unless ``relu`` is False, ReLU."""

    def __init__(self, conv: Convolution, momentum: float, *, relu: bool = True) -> None:
        super().__init__()
        self.conv, self.relu = conv, relu
        self.norm = Norm(conv.out_channels, momentum=momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.conv(x)
        features = self.norm(x.features)
        return x.replace(F.relu_(features) if self.relu else features)


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions, or a bottleneck of 1, 3 and 1; plus the input, projected if widths differ."""

    def __init__(self, in_channels: int, channels: int, expansion: int, momentum: float) -> None:
        super().__init__()
        out_channels = channels * expansion
        if expansion == 1:
            convs: list[Convolution] = [SubMConv(in_channels, channels), SubMConv(channels, channels)]
        else:
            convs = [
                PointConv(in_channels, channels),
                SubMConv(channels, channels),
                PointConv(channels, out_channels),
            ]
        last = len(convs) - 1
        self.path = nn.Sequential(*(ConvNorm(conv, momentum, relu=i < last) for i, conv in enumerate(convs)))
        self.shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.shortcut = ConvNorm(PointConv(in_channels, out_channels), momentum, relu=False)

    def forward(self, x: SparseTensor) -> SparseTensor:
        y = self.path(x)
        skip = x if self.shortcut is None else self.shortcut(x)
        return y.replace(F.relu_(y.features.add_(skip.features)))


class UpJoin(nn.Module):
    """To the next finer level, then the features of the way down beside those that come up."""

    def __init__(self, in_channels: int, channels: int, momentum: float) -> None:
        super().__init__()
        self.up = ConvNorm(UpConv(in_channels, channels), momentum)

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        return skip.replace(torch.cat([self.up(x).features, skip.features], 1))


class MinkUNet(nn.Module):
    """Sparse U-Net over five levels; features (V, ``in_channels``) to (V, ``out_channels``) on the same cells.

    Args:
        depth: row of ``MINKUNET``: "tiny", 18, 34, 50 or 101.
        in_channels: channels of the input features.
        width: factor on all widths, rounded to multiples of 8.
        output: "published", where 50 and 101 end in 384 channels because their last stage is a bottleneck, or the
            width of the last stage, which is then made of basic blocks (96 makes 50 and 101 comparable to 18 and 34).
            The number is taken as it is, whatever ``width``.
        momentum: of the batch normalisation; 0.05 as published for pretraining, 0.02 for fine-tuning.

    Attributes:
        out_channels: width of the output.
        levels: strides that the network visits, for ``Pyramid.build``.
    """

    def __init__(
        self,
        depth: int | str = 18,
        *,
        in_channels: int = 4,
        width: float = 1.0,
        output: Literal["published"] | int = "published",
        momentum: float = 0.05,
    ) -> None:
        super().__init__()
        if depth not in MINKUNET:
            raise InputError(
                f"MinkUNet depth {depth!r} is unknown; choose one of {', '.join(map(str, MINKUNET))}"
            )
        if not width > 0 or not (output == "published" or (isinstance(output, int) and output > 0)):
            raise InputError(
                f'width {width!r} and output {output!r} must be positive; output may be "published"'
            )
        if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 <= momentum <= 1:
            raise InputError(
                f"momentum is {momentum!r}; give the share of a batch in running statistics, 0 to 1"
            )
        base, stages = MINKUNET[depth]
        base = _scaled(base, width)
        stages = tuple(stage._replace(channels=_scaled(stage.channels, width)) for stage in stages)
        if output != "published":
            stages = *stages[:-1], stages[-1]._replace(channels=output, expansion=1)
        self.stem = nn.Sequential(
            ConvNorm(SubMConv(in_channels, base), momentum), ConvNorm(SubMConv(base, base), momentum)
        )
        self.resample, self.blocks = nn.ModuleList(), nn.ModuleList()
        channels, skips = base, []
        for stage in stages:
            if stage.stride == 2:
                skips.append(channels)
                self.resample.append(ConvNorm(DownConv(channels, channels), momentum))
            else:
                self.resample.append(UpJoin(channels, stage.channels, momentum))
                channels = stage.channels + skips.pop()
            blocks = []
            for _ in range(stage.blocks):
                blocks.append(ResidualBlock(channels, stage.channels, stage.expansion, momentum))
                channels = stage.channels * stage.expansion
            self.blocks.append(nn.Sequential(*blocks))
        self.in_channels, self.out_channels = in_channels, channels
        self.levels = 1 + sum(stage.stride == 2 for stage in stages)

    def forward(self, x: SparseTensor) -> SparseTensor:
        with _counted_together():
            return self._through_levels(x)

    def _through_levels(self, x: SparseTensor) -> SparseTensor:
        # inputs in metres keep their digits: bfloat16 is spaced by 0.25 m at 32 m, more than a voxel
        with torch.autocast(x.features.device.type, enabled=False):
            x = self.stem[0](x)
        x = self.stem[1](x)
        skips: list[SparseTensor] = []
        for resample, blocks in zip(self.resample, self.blocks):
            if isinstance(resample, UpJoin):
                x = resample(x, skips.pop())
            else:
                skips.append(x)
                x = resample(x)
            x = blocks(x)
        return x


def _scaled(channels: int, width: float) -> int:
    return max(8, round(channels * width / 8) * 8)
