"""The house in figures, of several checkouts side by side: lines by room, lengths of functions, rooms and arrows.

    python tests/house_figures.py [CHECKOUT ...]      Markdown; this checkout where none is named

A *line* is any line of a Python file; a line *of code* holds more than a comment or a part of a docstring. Rooms and
arrows are those of `architecture`; arrows back are counted in the order that the house has today.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from architecture import BESIDE, arrows, arrows_back, circles, floors, imports

HERE = Path(__file__).resolve().parent.parent
_NOTHING = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
}


@dataclass(frozen=True)
class Size:
    """Lines of a room, and those of code among them."""

    lines: int
    code: int

    def __add__(self, other: Size) -> Size:
        return Size(self.lines + other.lines, self.code + other.code)

    def __str__(self) -> str:
        return f"{self.lines} ({self.code})"


def room_files(checkout: Path) -> Iterator[tuple[str, Path]]:
    """Each Python file with its room; configs, which are data, are none."""
    for folder in ("superflow", *(name for name in BESIDE if name != "configs")):
        for path in sorted((checkout / folder).rglob("*.py")):
            parts = path.relative_to(checkout).with_suffix("").parts
            if parts[1:] != ("__init__",):
                yield (parts[1] if folder == "superflow" else folder), path


def size(text: str) -> Size:
    """Of one file."""
    docs = {line for node in ast.walk(ast.parse(text)) for line in _docstring(node)}
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NOTHING and token.type != tokenize.ENDMARKER:
            held.update(range(token.start[0], token.end[0] + 1))
    return Size(len(text.splitlines()), len(held - docs))


def _docstring(node: ast.AST) -> range:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return range(0)
    if ast.get_docstring(node, clean=False) is None:
        return range(0)
    return range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)


def function_lengths(text: str) -> list[int]:
    """Lines of each function and method of a file, from ``def`` to its end."""
    functions = (
        n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [(function.end_lineno or 0) - function.lineno + 1 for function in functions]


def quantile(values: Sequence[int], share: float) -> int:
    """The smallest value that at least ``share`` of ``values`` do not exceed."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def figures(checkout: Path) -> dict[str, str]:
    """What is told of a checkout: title -> figure."""
    sizes: dict[str, Size] = {}
    lengths: list[int] = []
    for room, path in room_files(checkout):
        text = path.read_text(encoding="utf-8")
        sizes[room] = sizes.get(room, Size(0, 0)) + size(text)
        lengths += function_lengths(text)
    modules = imports(checkout)
    house = arrows(modules)
    inside = {a: goals - set(BESIDE) for a, goals in house.items() if a not in BESIDE}
    apart = ("street", "agents")
    found = {"lines (of code): all rooms": str(sum(sizes.values(), Size(0, 0)))}
    others = [own for room, own in sizes.items() if room not in apart]
    found[f"without {' and '.join(apart)}"] = str(sum(others, Size(0, 0)))
    found |= {room: str(own) for room, own in sorted(sizes.items())}
    found["number of functions"] = str(len(lengths))
    found["lines of a function: median, 90th percentile"] = (
        f"{quantile(lengths, 0.5)}, {quantile(lengths, 0.9)}"
    )
    for name, drawing in (("superflow/", inside), ("the whole house", house)):
        count = sum(map(len, drawing.values()))
        found[f"{name}: rooms, arrows, floors"] = f"{len(drawing)}, {count}, {floors(drawing)}"
    found["pairs of rooms, of modules in a circle"] = f"{len(circles(house))}, {len(circles(modules))}"
    found["arrows back up, by today's order"] = str(len(arrows_back(house)))
    return found


def markdown(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A row for each figure, a column for each checkout; "-" where it has no such room."""
    rooms = sorted({title for own in columns.values() for title in own if title.isidentifier()})
    others = dict.fromkeys(title for own in columns.values() for title in own if not title.isidentifier())
    first = [title for title in others if title.startswith(("lines (", "without"))]
    titles = [*first, *rooms, *(title for title in others if title not in first)]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    lines += [
        f"| {title} | " + " | ".join(own.get(title, "-") for own in columns.values()) + " |"
        for title in titles
    ]
    return "\n".join(lines)


def main() -> None:
    checkouts = [Path(text).resolve() for text in sys.argv[1:]] or [HERE]
    print(markdown({checkout.name: figures(checkout) for checkout in checkouts}))


if __name__ == "__main__":
    main()
