"""What `prepare --check` prints: every name can be read, wherever it is printed to."""

from __future__ import annotations

import pytest

from superflow.datasets.check.report import Report
from superflow.tools.check_tables import show_report

CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "ring_side_right_of_the_second_mast")
SPREAD = {"smallest": -13.7, "1 %": -3.0, "median": -0.7, "99 %": 3.9, "largest": 19.3}


def report() -> Report:
    figures = {"images": 76, "points_share": 0.25, "smallest_share": 0.24, "frames_with_points": 1.0}
    rows = [{"camera": name, **figures, "depth_m": 7.2, "brightness": 95.0} for name in CAMERAS]
    dataset = {"name": "drive", "version": "v1"}
    return Report(dataset, {"scenes": 3}, clouds={"height_m": SPREAD}, cameras=rows)


def first_columns(printed: str) -> str:
    """The text of the first column of all tables, its lines put together."""
    return "".join(line.split("│")[1].strip() for line in printed.splitlines() if line.startswith("│"))


def test_a_file_has_every_row_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("COLUMNS", raising=False)
    show_report(report())
    printed = capsys.readouterr().out
    assert all(f"│ {name}" in printed for name in (*CAMERAS, "height over the sensor [m] │"))
    assert "points on image ┃ smallest ┃ frames with any ┃ depth [m] ┃ brightness" in printed


def test_a_narrow_terminal_breaks_names_and_leaves_nothing_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "70")
    show_report(report())
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 70
    assert all(name in first_columns(printed) for name in CAMERAS)
    assert "…" not in printed
