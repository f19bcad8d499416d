"""How a batch travels between devices."""

from __future__ import annotations

from dataclasses import fields

import torch
from other_device import DEVICE, Elsewhere, OtherDevice
from small_batch import make_clip
from torch import Tensor
from torch.utils.data import DataLoader

from superflow.clips.batch import collate


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
        assert all(
            getattr(batch, name) is not other for other in pinned
        )  # the pinned copy, not what was pinned
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
