"""What commands share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from superflow.errors import require
from superflow.tools.command import run_command


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
    assert said.endswith('run: pip install "superflow-lidar[agents]"\n')
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["benchmark", "places", "--out", "x"], ["quickstart"]])
@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_jobs_are_at_least_one(words, jobs, capsys):
    from superflow.tools.main import main

    with pytest.raises(SystemExit) as ended:
        main([*words, "--jobs", jobs])
    assert ended.value.code == 2
    assert f"argument --jobs: '{jobs}' is no whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["benchmark", "saga", "--out", "x"], ["benchmark", "places", "--out", "x"], ["quickstart"]]
)
def test_a_seed_is_there_once(words, capsys, tmp_path, monkeypatch):
    """Two processes would train in one folder."""
    from superflow.tools.main import main

    monkeypatch.chdir(tmp_path)
    assert main([*words, "--seeds", "0", "1", "0"]) == 2
    assert "--seeds is 0 1 0; give different whole numbers" in capsys.readouterr().err


def test_the_quickstart_ends_with_how_to_ask_its_log(monkeypatch, capsys):
    from types import SimpleNamespace

    from superflow.tools.quickstart import main

    done = SimpleNamespace(backbone="b.safetensors")
    monkeypatch.setattr("superflow.quickstart.run.run_quickstart", lambda options: done)
    monkeypatch.setattr("superflow.quickstart.report.summary_table", lambda result: "the table")
    for words, run in (([], ""), (["--out", "my runs"], " --run 'my runs'")):
        assert main(words) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"ask it: bash tools/ask.sh 'how many cars are ahead?'{run}"
