"""The command line: what it says and what it returns."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import torch
import torch.distributed as dist
from engine_toy import ToyDataset

from superflow.engine import load_config
from superflow.errors import InputError
from superflow.method.launch import stop_distributed
from superflow.tools.main import COMMANDS, main
from superflow.tools.test import main as evaluate
from superflow.tools.train import main as train_main
from superflow.tools.train import run


def test_help_lists_the_commands_without_importing_torch() -> None:
    code = (
        "import sys; from superflow.tools.main import main; main(['--help']); print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert shown.endswith("False\n")


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "there is no command 'trian'; the nearest is 'train'" in capsys.readouterr().err


def test_train_resume_and_test_from_the_command_line(
    toy_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = toy_config.parent / "work"
    common = [str(toy_config), "--work-dir", str(work), "--seed", "4"]
    assert train_main([*common, "--cfg-options", "train_cfg.max_iters=4", "custom_hooks=[]"]) == 0
    assert f"next: superflow test {work / 'config.py'} {work}\n" in capsys.readouterr().out
    assert (work / "iter_4.pth").is_file()
    assert main(["train", *common, "--resume"]) == 0
    assert "loaded" in capsys.readouterr().out
    newest = str(work / "iter_12.pth")
    assert load_config(toy_config, resume=work).load_from == newest  # also of the folder of another run
    assert load_config(toy_config, load_from=work).load_from == newest
    trained_with = (work / "config.py").read_text()
    assert evaluate([str(toy_config), str(work), "--seed", "4"]) == 0
    assert "miou" in capsys.readouterr().out
    assert (work / "test_result.json").is_file()
    assert (work / "config.py").read_text() == trained_with


@pytest.mark.parametrize(
    "option", ["model.dropout=7", "train_dataloader.dataset.items=0", "load_from=nowhere.pth"]
)
def test_a_run_that_is_refused_leaves_no_folder(toy_config: Path, option: str) -> None:
    work = toy_config.parent / "work"
    common = [str(toy_config), "--work-dir", str(work), "--cfg-options", "train_cfg.max_iters=1"]
    assert train_main([*common, option]) == 2
    assert not work.exists()
    assert train_main(common) == 0
    assert [path for path in work.iterdir() if path.is_dir()], "where it logs"


def test_a_run_that_is_refused_changes_nothing_of_an_earlier_one(
    toy_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The config that it was trained with is what the message points at."""
    work = toy_config.parent / "work"
    common = [str(toy_config), "--work-dir", str(work), "--cfg-options", "train_cfg.max_iters=2"]
    assert train_main(common) == 0
    assert evaluate([*common[:1], str(work), "--work-dir", str(work)]) == 0

    def content() -> dict[str, bytes]:  # a run of the same second logs into the same file
        return {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()}

    before = content()
    assert {"config.py", "test_config.py"} <= before.keys()
    assert train_main([*common, "model.dropout=0.5", "--resume"]) == 2
    assert "resume with the config it was trained with (config.py beside it)" in capsys.readouterr().err
    assert train_main([*common, "default_hooks.checkpoint.save_best=mIoU"]) == 2
    assert evaluate([*common[:1], str(work), "--cfg-options", "model.width=4"]) == 2
    assert content() == before


def test_weights_are_not_judged_by_as_many_other_classes(
    toy_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be counted under the name of another one."""
    plain = ToyDataset.record
    monkeypatch.setattr(ToyDataset, "record", lambda self: {**plain(self), "classes": list(self.class_names)})
    work = toy_config.parent / "work"
    common = [str(toy_config), "--work-dir", str(work), "--cfg-options", "train_cfg.max_iters=1"]
    assert train_main(common) == 0
    assert evaluate([*common[:1], str(work)]) == 0
    monkeypatch.setattr(ToyDataset, "class_names", ("left", "right", "middle"))
    capsys.readouterr()
    assert evaluate([*common[:1], str(work)]) == 2
    said = (
        "was trained on other classes than test_dataloader.dataset has (number 1 of 3 is middle, there right)"
    )
    assert said in capsys.readouterr().err
    assert train_main([*common, f"load_from={work / 'iter_1.pth'}"]) == 0, "further training may change them"


def test_nothing_to_evaluate_is_said_before_a_folder_is_made(
    toy_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy_config.parent)
    before = sorted(toy_config.parent.iterdir())
    assert evaluate([str(toy_config), "nowhere.pth"]) == 2
    assert "nowhere.pth: there is no such checkpoint; check the path" in capsys.readouterr().err
    (toy_config.parent / "x.pth").touch()
    none = ["val_dataloader=None", "test_dataloader=None"]
    assert evaluate([str(toy_config), "x.pth", "--cfg-options", *none]) == 2
    assert "has neither a test_dataloader nor a val_dataloader" in capsys.readouterr().err
    assert sorted(toy_config.parent.iterdir()) == sorted([*before, toy_config.parent / "x.pth"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cfg-options", "model.widht=3"],
            "superflow train: --cfg-options model.widht: model has no 'widht'",
        ),
        (["--cfg-options", "model.width"], "--cfg-options model.width: has no value; write KEY=VALUE"),
        (
            ["--cfg-options", "model.dropout=2"],
            "model: cannot be built (dropout probability has to be between",
        ),
        (
            ["--cfg-options", "train_cfg=None"],
            "has no train_cfg, so there is nothing to train; try superflow test",
        ),
        (
            ["--cfg-options", "train_dataloader=None"],
            "train_dataloader: is missing, and there is a train_cfg; give both, or set train_cfg=None",
        ),
        (["--resume", "nowhere.pth"], "nowhere.pth: there is no such checkpoint; check the path"),
        (["--data-root", "x"], "has no data_root that --data-root could replace"),
        (["--cfg-options", "custom_hooks.0.momentum=1"], "hook EMAHook: cannot be built (momentum is 1"),
        (["--launcher", "slurm"], "launcher 'slurm' found no SLURM_PROCID"),
    ],
)
def test_unusable_input_is_one_sentence(
    toy_config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    work = toy_config.parent / "work"
    assert train_main([str(toy_config), "--work-dir", str(work), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(work.glob("*.pth"))


def test_a_full_disk_stops_with_a_sentence_and_the_run_goes_on_later(
    toy_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = toy_config.parent / "work"
    command = [str(toy_config), "--work-dir", str(work)]
    real_save = torch.save

    def save(content: dict, file: IO[bytes]) -> None:
        if content["meta"]["iter"] == 6:
            file.write(b"part of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_save(content, file)

    monkeypatch.setattr(torch, "save", save)
    assert train_main(command) == 2
    said = capsys.readouterr().err
    assert "iter_6.pth: cannot be written (No space left on device); free some space" in said
    monkeypatch.undo()
    assert sorted(path.name for path in work.glob("*.pt*")) == ["best_miou.pth", "iter_3.pth"]
    assert not list(work.glob(".*.part"))
    assert (work / "last_checkpoint").read_text() == "iter_3.pth"
    assert train_main([*command, "--resume"]) == 0
    assert (work / "last_checkpoint").read_text() == "iter_12.pth"


def test_a_diverged_run_returns_one(toy_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cfg-options", "train_dataloader.dataset.broken=0"]
    assert train_main([str(toy_config), "--work-dir", str(toy_config.parent / "work"), *options]) == 1
    assert "health_report.json says what" in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_cannot_be_tested(
    toy_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate([str(toy_config), str(toy_config.parent)]) == 2
    assert "holds no checkpoint; give the folder of a run or a .pth file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "code"),
    [(None, 0), (InputError("bad"), 2), (KeyboardInterrupt(), 130), (RuntimeError("worse"), None)],
)
def test_no_command_leaves_a_process_group_behind(
    tmp_path: Path, failure: BaseException | None, code: int | None
) -> None:
    def work(args: argparse.Namespace) -> int:
        dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
        if failure is not None:
            raise failure
        return 0

    args = argparse.Namespace(local_rank=None)
    try:
        if code is None:
            with pytest.raises(RuntimeError, match="worse"):
                run("superflow test", args, work)
        else:
            assert run("superflow test", args, work) == code
        assert not dist.is_initialized()
    finally:
        stop_distributed()
