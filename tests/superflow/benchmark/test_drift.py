"""Drift of poses: an error that is put in comes out, whatever the world that each is in."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.benchmark.drift import drift_of
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError
from superflow.geometry import make_transform, rotation_z
from superflow.tools.main import main


def way(count: int, step_m: float, turn_deg: float = 0.0) -> np.ndarray:
    """(count, 4, 4): forward by a step, then turned, again and again."""
    poses, step = [np.eye(4)], rotation_z(np.deg2rad(turn_deg))
    step[0, 3] = step_m
    for _ in range(count - 1):
        poses.append(poses[-1] @ step)
    return np.array(poses)


def test_a_scale_that_is_wrong_by_two_per_cent_drifts_by_two_per_cent():
    world = make_transform([0.8, 0.0, 0.0, 0.6], [300.0, -20.0, 4.0])
    found = drift_of([(way(301, 1.0), world @ way(301, 1.02)), (world @ way(201, 1.0), way(201, 1.02))])
    assert found.percent == pytest.approx(2.0)
    assert found.degrees == pytest.approx(0.0, abs=1e-5)
    assert (found.scenes, found.stretch_m) == (2, 100.0)
    assert found.way_m == pytest.approx(500.0)
    assert found.stretches == len(range(0, 201, 5)) + len(range(0, 101, 5))


def test_a_turn_that_is_not_there_is_degrees_for_a_hundred_metres():
    found = drift_of([(way(101, 0.5), way(101, 0.5, turn_deg=0.01))])
    assert found.stretch_m == 50.0, "the scene is shorter than a stretch"
    assert found.degrees == pytest.approx(0.01 * 100 / 50.0 * 100)
    assert "2.00 degrees per 100 m, over 1 stretches of 50 m of 50 m in 1 scenes" in found.text()


def test_who_stands_still_has_no_drift():
    with pytest.raises(InputError, match="shorter than a metre"):
        drift_of([(way(9, 0.01), way(9, 0.01))])


def test_the_command_compares_two_indices_of_one_log(prepared_scans, tmp_path, capsys):
    one = str(prepared_scans.folder)
    assert main(["compare-poses", one, one]) == 0
    assert "poses of the log: 0.00 % and 0.00 degrees per 100 m" in capsys.readouterr().out
    write_index(prepared_scans.root, tmp_path / "other", key_frames_only=True)
    assert main(["compare-poses", one, str(tmp_path / "other")]) == 2
    assert "holds other scans than" in capsys.readouterr().err
