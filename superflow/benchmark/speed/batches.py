"""Batches to measure a pretraining step on, with random pairs: what they cost hangs on their sizes alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...camera.teacher import Teacher, make_teacher
from ...clips.batch import Batch
from ...errors import InputError
from .clouds import clouds
from .options import Options

OFFSETS = (-1, 0, 1)
IDS = 17  # of class-like regions, as published


def make_batch(options: Options, *, clips: int, cameras: int, images: Tensor, view: tuple[int, int]) -> Batch:
    """Clips of three times and a dense cloud, all of equally many points, each point paired with one pixel.

    Args:
        images: (clips * cameras * 3, ...), of a clip in order of camera and then of time.
        view: height and width of the images that pairs and regions are of.
    """
    draw = torch.Generator().manual_seed(0)
    source, parts = clouds(options.data), []
    times = [*OFFSETS, 0]
    for _ in range(clips * len(times)):
        cloud = next(source)[:, :4]
        parts.append(cloud[torch.randperm(len(cloud), generator=draw)[: options.points]])
    rows = torch.tensor([len(part) for part in parts])
    cloud = torch.repeat_interleave(torch.arange(len(parts)), rows)
    clip, time = cloud // len(times), torch.tensor(times)[cloud % len(times)]
    camera = torch.randint(0, cameras, (len(cloud),), generator=draw)
    image = (clip * cameras + camera) * len(OFFSETS) + time + 1
    pixel = torch.rand(len(cloud), 2, generator=draw) * torch.tensor([view[1] - 1.0, view[0] - 1.0])
    # regions of some 30 pixels across, as a segmenter draws them
    coarse = torch.randint(0, IDS, (len(images), 1, view[0] // 28, view[1] // 28), generator=draw)
    regions = nn.functional.interpolate(coarse.float(), view, mode="nearest")[:, 0].int()
    at = pixel.round().long()
    of_image = torch.arange(clips).repeat_interleave(cameras * len(OFFSETS))
    return Batch(
        points=torch.cat(parts),
        cloud=cloud,
        cloud_clip=torch.arange(clips).repeat_interleave(len(times)),
        cloud_offset=torch.tensor(times).repeat(clips),
        cloud_dense=torch.tensor([False, False, False, True]).repeat(clips),
        images=images,
        image_clip=of_image,
        image_offset=torch.tensor(OFFSETS).repeat(clips * cameras),
        image_camera=torch.arange(cameras).repeat_interleave(len(OFFSETS)).repeat(clips),
        superpixels=regions,
        pair_point=torch.arange(len(cloud)),
        pair_image=image,
        pair_pixel=pixel,
        pair_region=regions[image, at[:, 1], at[:, 0]].long(),
        view_size=view,
    )


def any_teacher() -> Teacher:
    """The embedded teacher where it is installed, else the one without weights."""
    try:
        return make_teacher("efficientnet_lite0")
    except InputError:
        return make_teacher("filter_bank")


class CachedFeatures(nn.Identity):
    """Stands for a teacher whose features the batch holds already."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
