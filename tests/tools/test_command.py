"""What commands share."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NoReturn

import pytest

from superflow.errors import InputError, pip_install_extra, require
from superflow.tools.command import STOPPED, command_parser, named_values, run_command
from superflow.tools.main import COMMANDS, main


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores"
)
def test_only_cores_that_the_process_may_use_are_counted():
    script = """
import os
from superflow.together import usable_cores
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
print(usable_cores())
"""
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["1"]


def test_a_package_that_is_not_installed_is_one_sentence(capsys):
    def work() -> int:
        require("no_such_package", "agents")
        raise AssertionError("it is not there")

    assert run_command("superflow ask", work) == 2
    said = capsys.readouterr().err
    assert said.startswith("superflow ask: no_such_package is not installed")
    assert said.endswith(f"run: {sys.executable} -m pip install 'superflow-lidar[agents]'\n")
    assert said.count("\n") == 1


def test_a_checkout_that_is_not_installed_brings_its_extras_itself(monkeypatch):
    def none(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("superflow.errors.distribution", none)
    monkeypatch.setattr(sys, "executable", "/my envs/bin/python")
    root = Path(__file__).parents[2]
    said = shlex.split(pip_install_extra("ros"))
    assert said == ["/my envs/bin/python", "-m", "pip", "install", "--editable", f"{root}[ros]"]
    assert (root / "pyproject.toml").is_file()


def _allocate() -> int:
    import torch

    torch.empty(2**62, dtype=torch.uint8)
    raise AssertionError("so much memory is not there")


def _fails_with(error: BaseException) -> Any:
    def work() -> NoReturn:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (_allocate, "allocate"),
        (_fails_with(MemoryError()), "MemoryError"),
        (_fails_with(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")), "2.00 GiB."),
        (_fails_with(RuntimeError("CUDA error: out of memory\nkernel errors")), "CUDA error: out of memory"),
        (
            _fails_with(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ")),
            "Bus error",
        ),
        (_fails_with(RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")), "unexpectedly"),
        (_fails_with(BrokenProcessPool("A process in the process pool was terminated abruptly")), "abruptly"),
        (_fails_with(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when")), "CUBLAS"),
    ],
)
def test_a_full_memory_is_one_sentence(work, said, capsys):
    assert run_command("superflow train", work) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"superflow train: (there is no memory left|a process that works for this one was ended .*) \(", line
    )
    assert said in line
    assert "end what else uses it" in line


def test_another_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="device-side"):
        run_command("superflow train", _fails_with(RuntimeError("CUDA error: device-side assert triggered")))


def test_ctrl_c_ends_a_command_with_one_sentence(capsys, monkeypatch):
    def work(*_: Any) -> int:
        raise KeyboardInterrupt

    assert run_command("superflow prepare", work) == 130
    assert capsys.readouterr().err == f"superflow prepare: {STOPPED}\n"
    for name, words in (
        ("train", "stopped; add --resume to go on from the newest checkpoint"),
        ("test", STOPPED),
    ):
        tool = import_module(f"superflow.tools.{name}")
        monkeypatch.setattr(tool, "parse_args", lambda _: argparse.Namespace(local_rank=None))
        monkeypatch.setattr(tool, f"_{name}", work)
        assert main([name]) == 130
        assert capsys.readouterr().err == f"superflow {name}: {words}\n"


@pytest.mark.parametrize("words", [["benchmark", "places", "--out", "x"], ["quickstart"]])
@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_jobs_are_at_least_one(words, jobs, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--jobs", jobs])
    assert ended.value.code == 2
    assert f"argument --jobs: is '{jobs}'; give a whole number from 1 on" in capsys.readouterr().err


def every_parser(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of each command, and those of its subcommands."""
    made: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        made.append(parser)
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", keep)
    for name, (module, _) in COMMANDS.items():
        with pytest.raises(SystemExit):
            import_module(f"superflow.tools.{module}").parse_args([])
        yield name, made[-1]
        for action in made[-1]._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{name} {word}", inner) for word, inner in action.choices.items())


def test_every_number_on_a_command_line_has_a_range(monkeypatch):
    """A bare float takes nan, and a bare int a negative count of what is drawn, read or trained."""
    found = list(every_parser(monkeypatch))
    assert len(found) > len(COMMANDS)
    bare = [
        (name, *action.option_strings)
        for name, parser in found
        for action in parser._actions
        if action.type in (int, float)
    ]
    assert not bare, "give a type that `tools.command.number_in` made"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["visualize", "--index", "x", "--extent", "nan"],
            "--extent: is 'nan'; give a number from 1 to 2000",
        ),
        (["visualize", "--index", "x", "--extent", "1e9"], "--extent: is '1e9'"),  # rings, one by one
        (["visualize", "--index", "x", "--pick", "nan", "0"], "--pick: is 'nan'"),
        (
            ["find", "--index", "x", "--max-range", "nan", "a car"],
            "--max-range: is 'nan'; give a number above 0",
        ),
        (["train", "x", "--seed", "-1"], "--seed: is '-1'; give a whole number from 0 to 4294967295"),
        (
            ["make-questions", "--made", "3", "--out", "x.jsonl", "--count", "0"],
            "--count: is '0'; give a whole",
        ),
        (["prepare", "tokens", "--index", "x", "--out", "y", "--percent", "inf"], "--percent: is 'inf'"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["benchmark", "saga", "--out", "x"], ["benchmark", "places", "--out", "x"], ["quickstart"]]
)
def test_a_seed_is_there_once(words, capsys, tmp_path, monkeypatch):
    """Two processes would train in one folder."""
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--seeds", "0", "1", "0"]) == 2
    assert "--seeds is 0 1 0; give different whole numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train", "--resume", "pretrain/ppkt_small.py"],
            "config; --resume takes the words behind it for its own",
        ),
        (
            ["find", "--index", "x", "--frames", "val", "a car"],
            "query; --frames takes the words behind it for its",
        ),
        (
            ["test", "--cfg-options", "a=1", "c.py", "d"],
            "--cfg-options takes the words behind it for its own: write c",
        ),
        (["train"], "required: config\n"),
        (["make-drive", "--vary", "place"], "required: --out\n"),
    ],
)
def test_a_word_that_an_option_took_is_looked_for_before_it(words, said, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_the_quickstart_ends_with_how_to_ask_its_log(monkeypatch, capsys, tmp_path):
    """By the command of an installation, or by the script beside the one that was called."""
    from types import SimpleNamespace

    from superflow.tools.quickstart import main

    done = SimpleNamespace(backbone="b.safetensors")
    monkeypatch.setattr("superflow.quickstart.run.run_quickstart", lambda options: done)
    monkeypatch.setattr("superflow.quickstart.report.summary_table", lambda result: "the table")
    here = Path.cwd()
    for words, command, run in (
        ([], "superflow ask", ""),
        (["--out", "my runs"], "superflow ask", " --run 'my runs'"),
        (["--cwd", str(here)], "bash tools/ask.sh", ""),
        (["--cwd", str(tmp_path)], f"bash {here}/tools/ask.sh", f" --run {here}/work_dirs/quickstart"),
    ):
        assert main(words) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"ask it: {command} 'how many cars are ahead?'{run}"


def test_a_name_is_given_one_value(tmp_path, capsys):
    """The last one would be taken: another log is measured, other regions are made."""
    assert named_values("--root", ["a=1", "b=x=y", "c="], "NAME=PLACE") == {"a": "1", "b": "x=y", "c": ""}
    for texts, message in (
        (["a=1", "b=2", "a=3"], "--root a=3: a is given twice, as 1 before"),
        (["a"], "--root a: give NAME=PLACE"),
        (["=a"], "--root =a: give NAME=PLACE"),
    ):
        with pytest.raises(InputError, match=message):
            named_values("--root", texts, "NAME=PLACE")
    two = ["--root", "kitti=a", "--root", "kitti=b"]
    assert main(["benchmark", "places", *two, "--out", str(tmp_path / "out")]) == 2
    assert "--root kitti=b: kitti is given twice, as a before" in capsys.readouterr().err


def test_preparing_names_the_command_that_follows(write_small_log, tmp_path, capsys):
    log, out = write_small_log(tmp_path / "log"), tmp_path / "prepared"
    assert main(["prepare", "nuscenes", "--root", str(log), "--out", str(out)]) == 0
    follows = f"next: superflow prepare features --index {out} --frames train\n"
    assert capsys.readouterr().out.endswith(follows), "of the frames that configs name"


def test_help_says_each_default_once():
    parser = command_parser("name", "page")
    job = parser.add_subparsers().add_parser("job")
    for to in (parser, job):
        to.add_argument("--seeds", nargs="+", default=[0, 1], help="so many %%")
        to.add_argument("--seed", default=0, help="a number")
        to.add_argument("--rate", default=0.5, help="default: a half")
        to.add_argument("--named", action="append", default=[], help="names")
        to.add_argument("--switch", action="store_true", help="a switch")
    for to in (parser, job):
        shown = " ".join(to.format_help().split("--seeds", 2)[2].split())
        assert "so many % (default: 0 1)" in shown
        assert "a number (default: 0)" in shown
        assert shown.count("default") == 3
        assert shown.endswith("names --switch a switch")
