"""From a scene to the arrays of the ray-caster: primitives, bird's-eye grid, movers at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import invert
from .compiled import jit
from .parts import Part, part_reaches, wider
from .scene import Scene
from .shadows import across_the_sun
from .street import STEP
from .trace import HEIGHT, ROAD, Movers, World
from .tracks import Placed, track_poses

NODES = 2  # steps of the ground in a cell of the grid
CELL = NODES * STEP  # m


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene ready to be cast: its world and who moves."""

    scene: Scene
    world: World
    movers: tuple[int, ...]  # rows of scene.placed; the first is the recording vehicle
    first: NDArray[np.int32]  # (M + 1,) primitives of each mover
    radius: NDArray[np.float64]  # (M,)
    center: NDArray[np.float64]  # (M, 3) of the bounding ball, object frame

    @property
    def scratch(self) -> NDArray[np.int64]:
        """Fresh scratch memory of ``trace.Caster``."""
        return np.zeros(len(self.world.kind) + len(self.movers) + 1, dtype=np.int64)

    def movers_at(self, start: float, stop: float | None = None) -> Movers:
        """Movers between two times [s] (one time: an exposure)."""
        tracks = [track for m in self.movers if (track := self.scene.placed[m].track) is not None]
        poses = track_poses(self.scene.street, tracks, np.array([start, start if stop is None else stop]))
        inverse = np.empty((*poses.shape[:2], 3, 4))
        inverse[..., :3] = np.swapaxes(poses[..., :3, :3], -1, -2)
        inverse[..., 3] = -np.einsum("tmij,tmj->tmi", inverse[..., :3], poses[..., :3, 3])
        inverse = inverse.reshape(*poses.shape[:2], 12)
        center = np.einsum("tmij,mj->tmi", poses[..., :3, :3], self.center) + poses[..., :3, 3]
        low, high = center.min(axis=0) - self.radius[:, None], center.max(axis=0) + self.radius[:, None]
        grid = self.world.grid
        i0, j0 = ((low[:, :2] - grid[:2]) / CELL).astype(np.int64).T
        i1, j1 = ((high[:, :2] - grid[:2]) / CELL).astype(np.int64).T
        columns, rows = int(grid[3]), int(grid[4])
        cells, owners = [], []
        clear = self.world.cell_clear.copy()
        for m in range(len(self.movers)):
            i = np.arange(max(i0[m], 0), min(i1[m], columns - 1) + 1)
            j = np.arange(max(j0[m], 0), min(j1[m], rows - 1) + 1)
            covered = (j[:, None] * columns + i[None, :]).ravel()
            cells.append(covered)
            owners.append(np.full(len(covered), m))
            clear[covered] = np.maximum(clear[covered], high[m, 2])
        start_of, items = _by_cell(np.concatenate(cells), np.concatenate(owners), columns * rows)
        return Movers(inverse, center, self.radius, self.first, clear, start_of, items)


def _by_cell(cells, items, count):
    """Compressed rows: for each cell the range of its items."""
    order = np.argsort(cells, kind="stable")
    start = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(np.bincount(cells, minlength=count), out=start[1:])
    return start, items[order].astype(np.int32)


def make_stage(scene: Scene) -> Stage:
    """Arrays of everything in the scene."""
    movers = tuple(row for row, thing in enumerate(scene.placed) if thing.track is not None)
    fixed = [row for row, thing in enumerate(scene.placed) if thing.track is None]
    owner: list[tuple[int, Part]] = []
    first = [0]
    for row in movers:
        owner += [(row, part) for part in scene.placed[row].model.parts]
        first.append(len(owner))
    for row in fixed:
        owner += [(row, part) for part in scene.placed[row].model.parts]
    mover_of = {row: m for m, row in enumerate(movers)}
    matrix, half, box = _shaped(scene, owner)
    parts = [part for _, part in owner]
    things = [scene.placed[row] for row, _ in owner]
    cells = across_the_sun(scene.light.sun, box, first[-1])
    cells |= _grid(scene, [(scene.placed[row], part) for row, part in owner], first[-1])
    world = World(
        kind=np.array([part.kind for part in parts], dtype=np.int32),
        matrix=matrix,
        half=half,
        box=box,
        shape=np.array([part.numbers for part in parts], dtype=np.float64),
        seed=np.array([thing.model.seed for thing in things], dtype=np.int64),
        mover=np.array([mover_of.get(row, -1) for row, _ in owner], dtype=np.int32),
        instance=np.array([row if scene.placed[row].annotated else -1 for row, _ in owner], dtype=np.int32),
        label=np.array([part.label for part in parts], dtype=np.uint8),
        material=np.array([part.material for part in parts], dtype=np.int32),
        color=np.array([(part.first, part.second) for part in parts], dtype=np.float64),
        reflectance=np.array(
            [min(thing.model.reflectance * part.shine, 0.95) for thing, part in zip(things, parts)]
        ),
        ground=scene.street.ground,
        ground_grid=np.array([*scene.street.origin, STEP]),
        ground_style=scene.street.style,
        sun=scene.light.sun,
        **cells,
    )
    bounds = [scene.placed[row].model.bounds() for row in movers]
    center = np.array([(low + high) / 2 for low, high in bounds])
    radius = np.array([np.linalg.norm(high - low) / 2 for low, high in bounds])
    return Stage(scene, world, movers, np.array(first, dtype=np.int32), radius, center)


def _shaped(scene: Scene, owner: list[tuple[int, Part]]) -> tuple[NDArray, NDArray, NDArray]:
    """(P, 12) from the world to the unit shape, (P, 3) half axes, (P, 4, 3) box of each part of a thing of this row."""
    count = len(owner)
    matrix, half, box = np.empty((count, 12)), np.empty((count, 3)), np.empty((count, 4, 3))
    rows = {row for row, _ in owner}
    to_object = {row: invert(pose) for row in rows if (pose := scene.placed[row].pose) is not None}
    for p, (row, part) in enumerate(owner):
        unit = np.eye(4)
        unit[:3, :3] = np.linalg.inv(part.axes)
        unit[:3, 3] = -unit[:3, :3] @ part.center
        thing = scene.placed[row]
        if thing.pose is not None:
            unit = unit @ to_object[row]
        matrix[p], half[p] = unit[:3].ravel(), np.linalg.norm(part.axes, axis=0)
        box[p, 0], box[p, 1:] = part.center, (part.axes * wider(part.kind, part.numbers)).T
        if thing.pose is not None:
            box[p] = box[p] @ thing.pose[:3, :3].T
            box[p, 0] += thing.pose[:3, 3]
    return matrix, half, box


def _grid(scene: Scene, owners: list[tuple[Placed, Part]], moving: int) -> dict[str, NDArray]:
    """Cells of the bird's-eye grid: which primitives they hold, and how high things and ground reach."""
    ground = scene.street.ground
    columns, rows = (ground.shape[1] - 1) // NODES, (ground.shape[0] - 1) // NODES
    top = ground[..., HEIGHT] + np.where(ground[..., ROAD] > -STEP, scene.street.curb, 0.0)
    shifts = [
        top[j : j + NODES * rows : NODES, i : i + NODES * columns : NODES]
        for j in range(NODES + 1)
        for i in range(NODES + 1)
    ]
    floor = np.max(shifts, axis=0).ravel().astype(np.float32) + np.float32(1e-3)
    clear = floor.copy()
    origin = scene.street.origin
    parts = [part for _, part in owners[moving:]]
    poses = [thing.pose for thing, _ in owners[moving:] if thing.pose is not None]
    rotation = np.array([pose[:3, :3] for pose in poses])
    turned = np.array([pose[:3, :3] @ part.axes for pose, part in zip(poses, parts)])
    center = np.array([pose[:3, :3] @ part.center + pose[:3, 3] for pose, part in zip(poses, parts)])
    reach, own = part_reaches(parts, turned), part_reaches(parts, np.array([part.axes for part in parts]))
    lean = np.abs(rotation[:, 2, :2])
    own = own[:, :2] + 0.71 * CELL + 0.3 * lean[:, :1] + 0.3 * lean[:, 1:]
    start, order = _covered(center, reach, rotation, own, origin, columns, rows, moving, clear)
    ceiling = float(clear.max()) + 5.0  # above every mover, too
    grid = np.array([*origin, CELL, columns, rows, ceiling, float(floor.max())])
    return {"cell_start": start, "cell_items": order, "cell_floor": floor, "cell_clear": clear, "grid": grid}


@jit
def _covered(center, reach, rotation, own, origin, columns, rows, first, clear):
    """Compressed lists by cell of the fixed primitives that cover it, numbered from ``first``; raises ``clear`` (C,).

    Args:
        center, reach: (P, 3) of the box around each, in the world [m]. rotation: (P, 3, 3) of its thing.
        own: (P, 2) half sizes [m] along the thing's x and y within which a cell's centre counts.
    """
    start = np.zeros(columns * rows + 1, dtype=np.int32)
    items = np.empty(0, dtype=np.int32)
    for fill in range(2):
        if fill:
            total = 0
            for cell in range(len(start)):  # where a cell's list begins; filling moves it to its end
                start[cell], total = total, total + start[cell]
            items = np.empty(total, dtype=np.int32)
        for p in range(len(center)):
            x, y, r = center[p, 0], center[p, 1], rotation[p]
            i0 = max(int((x - reach[p, 0] - origin[0]) / CELL), 0)
            j0 = max(int((y - reach[p, 1] - origin[1]) / CELL), 0)
            i1 = min(int((x + reach[p, 0] - origin[0]) / CELL), columns - 1)
            j1 = min(int((y + reach[p, 1] - origin[1]) / CELL), rows - 1)
            top = center[p, 2] + reach[p, 2] + 1e-3
            for j in range(j0, j1 + 1):
                v = origin[1] + (j + 0.5) * CELL - y
                for i in range(i0, i1 + 1):
                    u = origin[0] + (i + 0.5) * CELL - x
                    if (
                        abs(r[0, 0] * u + r[1, 0] * v) > own[p, 0]
                        or abs(r[0, 1] * u + r[1, 1] * v) > own[p, 1]
                    ):
                        continue
                    cell = j * columns + i
                    if fill:
                        items[start[cell]] = first + p
                    else:
                        clear[cell] = max(clear[cell], top)
                    start[cell] += 1
    for cell in range(columns * rows, 0, -1):
        start[cell] = start[cell - 1]
    start[0] = 0
    return start, items
