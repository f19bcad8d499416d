"""The drawing of the house in figures: rooms, the arrows between them, and which of them run back up.

    python tests/architecture.py [CHECKOUT]      the figures of this checkout, or of another one

A *room* is a package or a module that lies directly in `superflow/`, or one of the folders beside it (`lidar/`, ...).
An *arrow* is an import from one room into another, wherever in the file it stands. The *floor* of a room is the
longest chain of arrows below it; rooms that lie on a cycle share one. An arrow *runs back up* when its goal stands
above its start in `FLOORS`, the order that the house is meant to have.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import grimp

BESIDE = ("lidar", "camera", "datasets", "tools", "configs")
# from the ground up; a room imports only from lines above its own
FLOORS = (
    ("errors", "compiled", "progress", "together"),
    ("devices", "geometry", "files", "option_values"),
    ("datasets", "lidar", "street", "protocol"),
    ("camera", "hub", "losses"),
    ("clips",),
    ("method", "downstream", "pictures"),
    ("engine", "agents"),
    ("registry", "benchmark"),
    ("quickstart",),
    ("tools",),
)

Arrows = dict[str, set[str]]


def imports(checkout: Path) -> Arrows:
    """Module -> the modules that it imports, wherever in the file, for types alone too; without the package itself.

    The package is the door: it lends what is below it on demand, and all below it may read its version.
    """
    with tempfile.TemporaryDirectory() as folder:
        house = Path(folder) / "superflow"
        shutil.copytree(checkout / "superflow", house, ignore=shutil.ignore_patterns("__pycache__"))
        for name in BESIDE:  # as setup.py installs them
            shutil.copytree(checkout / name, house / name, ignore=shutil.ignore_patterns("__pycache__"))
        for place in house.rglob("*/"):
            (place / "__init__.py").touch()  # grimp follows no folder without one
        imported = sys.modules.pop("superflow", None)  # grimp would follow that one instead of the copy
        sys.path.insert(0, folder)
        try:
            graph = grimp.build_graph("superflow", cache_dir=None)
        finally:
            sys.path.remove(folder)
            if imported is not None:
                sys.modules["superflow"] = imported
    door = {"superflow"}
    return {name: graph.find_modules_directly_imported_by(name) - door for name in graph.modules - door}


def arrows(modules: Arrows) -> Arrows:
    """Room -> the rooms that it imports from."""
    found: Arrows = {room(module): set() for module in modules if room(module)}
    for module, others in modules.items():
        if room(module):
            found[room(module)].update({room(other) for other in others} - {"", room(module)})
    return found


def room(module: str) -> str:
    """The room of a module; empty for the package itself and for configs, which are no code of the house."""
    name = (module.split(".") + [""])[1]
    return "" if name == "configs" else name


def floors(drawing: Arrows) -> int:
    """Number of rooms on the longest chain of arrows, a cycle counting as its rooms side by side."""
    reach = {start: _below(drawing, start) for start in drawing}
    circle = {a: frozenset({a} | {b for b in reach[a] if a in reach[b]}) for a in drawing}

    def height(group: frozenset[str]) -> int:
        under = {circle[b] for a in group for b in drawing[a]} - {group}
        return 1 + max(map(height, under), default=0)

    return max(map(height, set(circle.values())))


def _below(drawing: Arrows, start: str) -> set[str]:
    seen, todo = set[str](), [start]
    while todo:
        for other in drawing[todo.pop()] - seen:
            seen.add(other)
            todo.append(other)
    return seen


def arrows_back(drawing: Arrows) -> list[str]:
    """Arrows that run back up or sideways, in words; a room without a floor counts as the highest."""
    floor_of = defaultdict(lambda: len(FLOORS), {name: i for i, names in enumerate(FLOORS) for name in names})
    return sorted(
        f"{start} -> {goal}"
        for start, goals in drawing.items()
        for goal in goals
        if floor_of[goal] >= floor_of[start]
    )


def circles(drawing: Arrows) -> list[str]:
    """Pairs of rooms, or of modules, that reach each other."""
    below = {start: _below(drawing, start) for start in drawing}
    return sorted(
        f"{a} <-> {b}" for a in drawing for b in drawing if a < b and b in below[a] and a in below[b]
    )


def main() -> None:
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    modules = imports(checkout)
    house = arrows(modules)
    inside = {a: goals - set(BESIDE) for a, goals in house.items() if a not in BESIDE}
    for name, drawing in (("superflow/", inside), ("the whole house", house)):
        count = sum(map(len, drawing.values()))
        print(f"{name}: {len(drawing)} rooms, {count} arrows, {floors(drawing)} floors, ", end="")
        print(f"in circles: {', '.join(circles(drawing)) or 'none'}")
    print("modules in circles:", ", ".join(circles(modules)) or "none")
    print("arrows back up:", ", ".join(arrows_back(house)) or "none")
    for start in sorted(house):
        print(f"  {start}: {', '.join(sorted(house[start])) or '-'}")


if __name__ == "__main__":
    main()
