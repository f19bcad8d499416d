from __future__ import annotations

import builtins
import errno
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_toy import ToyModel

from superflow.errors import InputError, MissingFileError
from superflow.hub.checkpoint import (
    check_start,
    find_last,
    list_checkpoints,
    load_weights,
    plain,
    point_to,
    read_checkpoint,
    write_checkpoint,
)

CONTENT = {"meta": {"iter": 1}, "state_dict": {"weight": torch.arange(5.0)}}


def test_only_plain_types_are_stored() -> None:
    made = plain({"a": (1, 2.5), "b": np.float64(3), "c": np.arange(2), "d": Path("x"), 4: [None, True, "s"]})
    assert made.pop("c").tolist() == [0, 1]
    assert made == {"a": [1, 2.5], "b": 3.0, "d": "x", 4: [None, True, "s"]}
    assert type(made["b"]) is float
    with pytest.raises(
        TypeError, match=r"checkpoint\.meta\.hook\[1\] is a object; checkpoints hold plain types"
    ):
        plain({"meta": {"hook": [1, object()]}})


def test_a_checkpoint_loads_without_running_code(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "iter_1.pth", CONTENT)
    loaded = torch.load(tmp_path / "iter_1.pth", weights_only=True)
    torch.testing.assert_close(loaded["state_dict"]["weight"], torch.arange(5.0))
    torch.save({"meta": {}, "state_dict": ToyModel()}, tmp_path / "iter_2.pth")
    with pytest.raises(InputError, match=r"iter_2\.pth: is no checkpoint of plain tensors"):
        read_checkpoint(tmp_path / "iter_2.pth")


class FullDisk:
    """A file whose disk is full after some bytes."""

    def __init__(self, file: Any, room: int, fails_again: bool) -> None:
        self.file, self.room, self.fails_again = file, room, fails_again

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        if self.fails_again:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails_again", [False, True], ids=["once", "also when closed"])
@pytest.mark.parametrize("room", [0, 300, 1200])
def test_a_full_disk_leaves_the_previous_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, fails_again: bool
) -> None:
    path = tmp_path / "iter_1.pth"
    write_checkpoint(path, CONTENT)
    before = path.read_bytes()
    real_open = builtins.open

    def small(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        opened = real_open(file, mode, *args, **options)
        return FullDisk(opened, room, fails_again) if "x" in mode and str(file).endswith(".part") else opened

    monkeypatch.setattr(builtins, "open", small)
    with pytest.raises(
        InputError, match=r"iter_1\.pth: cannot be written \(No space left on device\); .* with --resume"
    ):
        write_checkpoint(path, {**CONTENT, "state_dict": {"weight": torch.zeros(1000)}})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["iter_1.pth"]


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "iter_1.pth"
    with pytest.raises(MissingFileError, match=r"iter_1\.pth: there is no such checkpoint"):
        read_checkpoint(path)
    write_checkpoint(path, CONTENT)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"iter_1\.pth: is no readable checkpoint .*; delete it"):
        read_checkpoint(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="lacks 'meta' or 'state_dict'"):
        read_checkpoint(path)


def test_another_architecture_is_one_sentence_and_loads_nothing() -> None:
    model, other = ToyModel(width=8), ToyModel(width=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(model, other.state_dict(), "best.pth")
    assert "backbone.0.weight is (4, 4) in the file and (8, 4) in the model" in str(caught.value)
    assert "and 4 more" in str(caught.value)
    assert "use the config that it was trained with" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    without_norm = ToyModel(norm=False).state_dict()
    with pytest.raises(InputError, match=r"the file has no backbone\.1\.weight"):
        load_weights(model, without_norm, "best.pth")
    with pytest.raises(InputError, match=r"the model has no backbone\.1\.weight"):
        load_weights(ToyModel(norm=False), model.state_dict(), "best.pth")


def test_queues_and_temperatures_beside_the_objectives_are_of_an_earlier_version() -> None:
    model = ToyModel()
    for name in ("queues.spatial.rows", "temperatures.spatial.log_inverse"):
        with pytest.raises(
            InputError, match=r"^iter_5\.pth: is of an earlier version, .*or export its backbone"
        ):
            load_weights(model, {**model.state_dict(), name: torch.zeros(1)}, "iter_5.pth")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("grid", {"type": "cubic", "size_m": [0.2] * 3}, "grid {'type': 'cubic', 'size_m': .* instead of"),
        ("inputs", ["x", "y"], "inputs .* instead of"),
        ("reduce", "first", "reduce first instead of mean"),
        ("limits", {"range_m": [0.0, 20.0]}, "limits .* instead of None"),
        ("reduce", "mean", None),
        ("inputs", ("x", "z"), None),
    ],
)
def test_weights_that_are_to_see_other_voxels_or_another_region_are_told_of(
    setting: str, value: Any, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = {"grid": {"type": "cubic", "size_m": [0.1] * 3}, "inputs": ["x", "z"], "reduce": "mean"}
    before = {"kind": "segmentor", "encoder": encoder, "limits": None}
    now = {**before, "data": {}}
    now |= {"limits": value} if setting == "limits" else {"encoder": {**encoder, setting: value}}
    with caplog.at_level("WARNING", "superflow"):
        check_start({"superflow": before, "state_dict": {}}, "iter_5.pth", record=now, parameters=[])
    if told is None:
        assert caplog.text == ""
        return
    assert re.search(rf"iter_5\.pth: was trained with other settings \(model has {told}", caplog.text)


def test_the_newest_checkpoint_is_found_also_without_its_pointer(tmp_path: Path) -> None:
    assert find_last(tmp_path) is None
    for iteration in (9, 10, 100):
        write_checkpoint(tmp_path / f"iter_{iteration}.pth", CONTENT)
    write_checkpoint(tmp_path / "best_miou.pth", CONTENT)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["iter_9.pth", "iter_10.pth", "iter_100.pth"]
    assert find_last(tmp_path).name == "iter_100.pth"
    point_to(tmp_path / "iter_10.pth")  # killed before it could point to the hundredth
    assert find_last(tmp_path).name == "iter_10.pth"
    (tmp_path / "iter_10.pth").unlink()
    assert find_last(tmp_path).name == "iter_100.pth"
