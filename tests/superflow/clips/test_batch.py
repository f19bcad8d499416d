"""How a batch travels between devices."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from other_device import DEVICE, Elsewhere, OtherDevice
from small_batch import make_clip
from torch import Tensor
from torch.utils.data import DataLoader

from superflow.clips.batch import Batch, collate, row_type


def tensors(batch) -> dict[str, Tensor]:
    return {f.name: value for f in fields(batch) if isinstance(value := getattr(batch, f.name), Tensor)}


def test_a_loader_pins_every_tensor(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *given: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(Tensor, "pin_memory", lambda value, *given: (pinned.append(value), value.clone())[1])
    clip = make_clip(0)
    (batch,) = DataLoader([clip], collate_fn=collate, pin_memory=True)
    assert len(pinned) == len(tensors(clip))
    for name, value in tensors(clip).items():
        assert torch.equal(getattr(batch, name), value)
        # the pinned copy, not what was pinned
        assert all(getattr(batch, name) is not other for other in pinned)
    assert (batch.tokens, batch.view_size) == (clip.tokens, clip.view_size)


def test_only_the_way_to_a_device_does_not_wait(monkeypatch):
    """Values on their way to the CPU could be read before they are there."""
    plainly, waits = Tensor.to, []

    def to(value, device, *, non_blocking=False):
        waits.append(not non_blocking)
        return plainly(value, device)

    clip = make_clip(0)
    with OtherDevice():
        monkeypatch.setattr(Tensor, "to", to)
        there = clip.to(DEVICE)
        assert waits == [False] * len(tensors(clip))
        assert all(isinstance(value, Elsewhere) for value in tensors(there).values())
        waits.clear()
        back = there.to("cpu")
    assert waits == [True] * len(tensors(clip))
    assert all(torch.equal(value, getattr(back, name)) for name, value in tensors(clip).items())


def packed(batch: Batch) -> Batch:
    """The batch as a dataset gives it."""
    small = {name: getattr(batch, name).int() for name in ("pair_point", "pair_region")}
    small |= {name: getattr(batch, name).to(torch.uint8) for name in ("cloud", "pair_image")}
    ids = batch.superpixels.to(torch.int16)  # wraps around
    return replace(batch, **small, superpixels=ids, labels=batch.labels.to(torch.uint8))


@pytest.mark.parametrize("images", [torch.uint8, torch.float16])
def test_a_packed_batch_is_unpacked_on_its_way_to_the_device(images):
    wide = []
    for seed in (0, 1):
        draw = torch.Generator().manual_seed(seed)
        clip = make_clip(seed)
        ids = torch.randint(0, 65536, clip.superpixels.shape, generator=draw, dtype=torch.int32)
        stored = torch.randint(0, 256, clip.images.shape, generator=draw).to(images)
        wide.append(replace(clip, superpixels=ids, images=stored))
    assert int(wide[0].superpixels.max()) > 40_000
    assert sum(map(_bytes, map(packed, wide))) < 0.8 * sum(map(_bytes, wide))
    got = collate([packed(clip) for clip in wide]).to("cpu")
    want = collate(wide)
    want = replace(want, images=want.images.float() / (255 if images == torch.uint8 else 1))
    for name, value in tensors(want).items():
        assert getattr(got, name).dtype == value.dtype, name
        assert torch.equal(getattr(got, name), value), name
    for name, value in tensors(got.to("cpu")).items():  # what is unpacked stays
        assert torch.equal(getattr(got, name), value), name


def test_packed_rows_of_many_clips_do_not_wrap_around():
    clips = [make_clip(seed) for seed in range(60)]
    got, want = collate([packed(clip) for clip in clips]), collate(clips)
    assert want.num_clouds > 200
    assert len(want.images) > 256
    for name in ("cloud", "pair_image"):
        assert torch.equal(getattr(got, name).long(), getattr(want, name)), name
    assert got.pair_image.dtype == row_type(len(want.images)) == torch.int32
    assert row_type(255) == collate([packed(clips[0])]).cloud.dtype == torch.uint8


def test_packed_images_are_not_taken_for_pixels_in_0_to_1():
    clip = replace(make_clip(0), images=torch.zeros(6, 3, 8, 12, dtype=torch.uint8))
    with pytest.raises(ValueError, match="the images are packed; move the batch to a device with `to`"):
        _ = clip.image_table


def _bytes(batch: Batch) -> int:
    return sum(value.numel() * value.element_size() for value in tensors(batch).values())
