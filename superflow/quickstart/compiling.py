"""What later stages compile at first use, compiled in a process beside the first stage, which leaves a core free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compiled import cache_folder
from ..together import SPAWN, end_with_starter, usable_cores


@contextmanager
def compiling_beside() -> Iterator[None]:
    """Compiles while the work of a ``with`` goes on, where nothing is compiled yet and there is a core for it."""
    folder = cache_folder(Path(__file__).parents[1] / "clips")
    if folder is None or any(folder.rglob("*.nbi")) or usable_cores() == 1:
        yield
        return
    process = SPAWN.Process(target=_quietly, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()  # what is left is compiled where it is called
        process.join()


def _quietly() -> None:
    # what fails here fails again where it is needed, and is told there
    end_with_starter()
    with suppress(Exception):
        compile_ahead()


def compile_ahead() -> None:
    """Calls what compiles, as training, probes and votes do, on a small made scan."""
    import torch

    from ..camera.superpixels.slic import slic

    torch.set_num_threads(1)
    points = _made_scan()
    _pair(points)
    _convolve(points)
    _vote(points)
    slic(np.zeros((32, 32, 3), np.uint8), segments=4)


def _made_scan() -> NDArray[np.float32]:
    """(2880, 4) a wall all around, seen by 16 beams."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(0, 360, 2)), np.radians(np.arange(-16, 16, 2)))
    x, y, z = 10 * np.cos(azimuth), 10 * np.sin(azimuth), 10 * np.tan(elevation)
    return np.stack([x, y, z, np.zeros_like(x)], axis=-1).reshape(-1, 4).astype(np.float32)


def _pair(points: NDArray[np.float32]) -> None:
    """A training sample: points within limits, on an image, in a view."""
    import torch

    from ..camera.occlusion import scan_surface
    from ..clips.pairing import pair
    from ..clips.views import TeacherView
    from ..clips.within import rows_within
    from ..datasets.cloud import Cloud
    from ..datasets.frame import Camera, Frame
    from ..geometry import OPTICAL
    from ..lidar.limits import Limits

    to_image, here = np.array([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]]), np.eye(4)
    camera = Camera("made", "made", 0, to_image, OPTICAL, here, path="", size=(100, 100))
    frame = Frame("made", "made", 0, True, Cloud.from_table(points), here, here, cameras=(camera,))
    kept = rows_within(Limits(range_m=(1.5, 60.0), height_m=(-5.0, 14.0)), frame.cloud.xyz)
    found = pair(frame, frame.cloud.xyz, [camera], surface=scan_surface(frame.cloud.xyz)).of(kept, [0])
    TeacherView(0, 0, "made", torch.zeros(1), None, here[:3, :3].copy()).pairs(found, (100, 100))


def _convolve(points: NDArray[np.float32]) -> None:
    """A training step of a small encoder."""
    import torch

    from ..lidar.encoder import LidarEncoder

    encoder = LidarEncoder(grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny", "width": 0.25})
    cloud = torch.zeros(len(points), dtype=torch.int64)
    encoder(torch.from_numpy(points), cloud, 1).features.sum().backward()


def _vote(points: NDArray[np.float32]) -> None:
    """A scan's vote for itself and another one's for it."""
    import torch

    from ..downstream.voting import Ballot, VotingOptions, vote

    here, options = np.eye(4), VotingOptions.window(1)
    ballot = Ballot(torch.from_numpy(points[:, :3]), torch.full((len(points), 2), 0.5), here)
    vote(ballot, {1: ballot}, options)
    vote(ballot, {}, options.control())
