"""The frames of a recording and how they hang together: transforms that stay, and those that change over time."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

import numpy as np

from ...geometry import Transform, compose, invert
from ..trajectory import Trajectory

_STILL = 1e-9  # how far transforms of one pair may differ that are published again and again


class FrameTree:
    """Frames by name, each with one parent, as ROS' tf has them."""

    def __init__(self) -> None:
        self._static: dict[str, tuple[str, Transform]] = {}
        self._moving: dict[str, tuple[str, list[int], list[Transform]]] = {}
        self._ways: dict[str, Trajectory] = {}  # of each moving frame in its parent, once all is settled

    def add_static(self, parent: str, child: str, child_to_parent: Transform) -> None:
        """A transform that holds at all times."""
        self._static[plain(child)] = (plain(parent), child_to_parent)

    def add(self, parent: str, child: str, time_us: int, child_to_parent: Transform) -> None:
        """A transform at a time; of another parent than before the new one counts."""
        known = self._moving.get(plain(child))
        if known is None or known[0] != plain(parent):
            known = self._moving[plain(child)] = (plain(parent), [], [])
        known[1].append(time_us)
        known[2].append(child_to_parent)

    def settle(self) -> None:
        """Take transforms that were published over time and never changed for static ones; nothing is added later."""
        for child, (parent, _, transforms) in list(self._moving.items()):
            if len(transforms) == 1 or np.abs(np.array(transforms) - transforms[0]).max() < _STILL:
                if child not in self._static:
                    self._static[child] = (parent, transforms[0])
                del self._moving[child]
        for child, (_, times, transforms) in self._moving.items():
            self._ways[child] = Trajectory.of(np.array(times, np.int64), np.array(transforms))

    def between(self, frame: str, other: str) -> Transform | None:
        """(4, 4) from ``frame`` to ``other`` by static transforms alone, whichever way they point; None without."""
        beside: defaultdict[str, list[tuple[str, Transform]]] = defaultdict(list)
        for child, (parent, child_to_parent) in self._static.items():
            beside[child].append((parent, child_to_parent))
            beside[parent].append((child, invert(child_to_parent)))
        found = {plain(frame): np.eye(4)}
        ahead = deque(found)
        while ahead:
            here = ahead.popleft()
            if here == plain(other):
                return found[here]
            for there, here_to_there in beside[here]:
                if there not in found:
                    found[there] = compose(here_to_there, found[here])
                    ahead.append(there)
        return None

    def worlds(self, frame: str) -> list[str]:
        """Frames in which ``frame`` moves, from the topmost downwards; none where nothing above it moves."""
        above = list(self._upwards(frame))
        moving = [self._moving[child][0] for child in above if child in self._moving]
        if moving:
            moving[-1] = self._static[above[-1]][0] if above[-1] not in self._moving else moving[-1]
        return moving[::-1]

    def world_pose(self, frame: str, time_us: int, world: str, *, max_gap_us: int) -> Transform | None:
        """(4, 4) from ``frame`` to ``world`` at a time, a frame above it; None where a transform is not known then.

        The tree must be settled.
        """
        pose = np.eye(4)
        for child in self._upwards(frame):
            if child == world and child != plain(frame):
                break
            if child in self._moving:
                step = self._ways[child].at(time_us, max_gap_us=max_gap_us)
                if step is None:
                    return None
            else:
                step = self._static[child][1]
            pose = compose(step, pose)
        return pose

    def _upwards(self, frame: str) -> Iterator[str]:
        """The frame and those above it that have a parent; a circle is gone through once."""
        here, seen = plain(frame), set[str]()
        while here not in seen and (here in self._moving or here in self._static):
            seen.add(here)
            yield here
            here = self._moving[here][0] if here in self._moving else self._static[here][0]


def plain(frame: str) -> str:
    """A frame's name without the slash that ROS 1 may put before it."""
    return frame.removeprefix("/")
