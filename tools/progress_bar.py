"""How far a long job is, as bars on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superflow.progress import Progress


@contextmanager
def progress_bar(*, counts: bool = False) -> Iterator[Progress]:
    """A ``Progress`` that draws a bar a job on standard error, with the share (or count) done and the time left.

    Work that is refused before it begins leaves no empty line before its message.
    """
    from rich import progress
    from rich.console import Console

    how_far = progress.MofNCompleteColumn() if counts else progress.TaskProgressColumn()
    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), how_far, progress.TimeRemainingColumn()
    )  # fmt: skip
    bars = progress.Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, Any] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            bars.start()
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total)

    try:
        yield show
    finally:
        if tasks:
            bars.stop()
