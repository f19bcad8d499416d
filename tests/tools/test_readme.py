"""The README runs, and all pages are true of the code: Python blocks, commands' arguments, links and paths."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from superflow.engine.config import find_config, load_config, parse_options, shipped_configs
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
FOLDERS = ("camera", "configs", "datasets", "docs", "lidar", "superflow", "tests", "tools")


def blocks(repository: Path, page: str, kind: str) -> list[str]:
    """Fenced blocks of one language."""
    text = (repository / page).read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for language, content in fences if language == kind]


def commands(repository: Path) -> list[str]:
    """Lines of all shell blocks, without comments and redirection; continued lines joined."""
    lines: list[str] = []
    for page in PAGES:
        for block in [*blocks(repository, page, "bash"), *blocks(repository, page, "")]:
            lines += block.replace("\\\n", " ").splitlines()
    return [re.split("  #| > ", line)[0].strip() for line in lines]


def test_the_python_blocks_run(repository, tmp_path, monkeypatch):
    torch.manual_seed(0)
    encoder = LidarEncoder(grid={"type": "cubic", "size_m": 0.25}, backbone={"depth": "tiny"})
    target = tmp_path / "work_dirs" / "quickstart" / "backbone.safetensors"
    save_backbone(encoder, target, BackboneCard("quickstart"))
    points = np.random.default_rng(0).uniform(0, 1, (300, 4)).astype(np.float32) * (20, 20, 2, 1)
    np.save(tmp_path / "scan.npy", points.astype(np.float32))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    found = blocks(repository, "README.md", "python")
    assert len(found) == 2
    for block in found:
        exec(block, names)
    assert names["features"].shape == (300, encoder.out_channels)
    assert names["logits"].shape == (300, 16)
    assert names["logits"].requires_grad


@pytest.mark.parametrize(
    ("page", "first"),
    [
        ("docs/own_data.md", None),
        ("docs/superpixels.md", None),
        ("docs/teachers.md", None),
        ("docs/agents.md", 1),
    ],
)
def test_the_python_blocks_of_a_page_run(repository, small_index, tmp_path, monkeypatch, page, first):
    """One after the other, on a prepared log. Those of agents behind the first want models or published files."""
    (tmp_path / "work_dirs").mkdir()
    (tmp_path / "work_dirs" / "prepared").symlink_to(small_index.folder)
    monkeypatch.chdir(tmp_path)
    found = blocks(repository, page, "python")[:first]
    assert found
    names: dict = {}
    for block in found:
        exec(block.replace("(448, 832)", "(64, 96)").replace("prepared/my_log", "work_dirs/prepared"), names)


def test_there_are_the_two_commands_first(repository):
    first = blocks(repository, "README.md", "bash")[0]
    assert [line.split("  ")[0] for line in first.splitlines()] == [
        "bash tools/quickstart.sh",
        "bash tools/run_tests.sh",
    ]


def test_every_command_is_understood(repository):
    """Each tool's own parser takes the arguments, and configs, keys and scripts that they name exist."""
    seen = []
    for line in commands(repository):
        words = shlex.split(line)
        if words[:1] == ["bash"]:
            assert (repository / words[1]).is_file(), line
        elif words[:1] == ["superflow"] and len(words) > 1 and words[1].islower():
            seen.append(check_command(words[1], words[2:], line))
        elif words[:1] == ["torchrun"]:
            place = words.index("-m")
            package, _, tool = words[place + 1].rpartition(".")
            assert package == "superflow.tools"
            seen.append(check_command(tool, words[place + 2 :], line))
        elif words[:1] == ["python"] and len(words) > 1 and words[1].startswith("tools/"):
            assert (repository / words[1]).is_file(), line
    assert {"prepare", "train", "test", "export", "visualize"} <= set(seen)


def test_every_command_is_shown(repository):
    text = "".join((repository / page).read_text(encoding="utf-8") for page in PAGES)
    jobs = {f"prepare {job}" for job in ("superpixels", "features", "corrupted", "tokens")}
    assert not [name for name in {*COMMANDS, *jobs} if f"superflow {name}" not in text]


def check_command(name: str, arguments: list[str], line: str) -> str:
    assert name in COMMANDS, line
    tool = import_module(f"superflow.tools.{COMMANDS[name][0]}")
    try:
        parsed = tool.parse_args(arguments)
    except SystemExit:
        pytest.fail(f"not understood: {line}")
    config = getattr(parsed, "config", None)
    if config is not None and str(config) != "CONFIG":
        assert find_config(config).is_file()
        load_config(config, options=parse_options(parsed.cfg_options))
    return name


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    for link, section in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if not link.startswith(("http://", "https://")):
            target = (repository / page).parent / link if link else repository / page
            assert target.exists(), f"{page} links to {link}"
            assert not section or section in sections(target), f"{page} links to {link}#{section}"


def sections(page: Path) -> set[str]:
    """What links to the headings of a page are called."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    for path in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.-]*)`", text):
        assert (repository / path).exists(), f"{page} names {path}"


def test_configs_say_how_to_run_them(repository):
    """Every command in a config's comment names a config that exists and options that it takes."""
    for path in sorted((repository / "configs").glob("*/*.py")):
        for line in commands_of(path):
            words = shlex.split(line)
            place = words.index("-m") + 1 if words[0] == "torchrun" else 1
            check_command(words[place].removeprefix("superflow.tools."), words[place + 1 :], line)


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.startswith("pretrain/")])
def test_configs_say_how_to_make_what_they_read(name):
    """A command in its comment, or in that of a base, makes each folder of regions and features."""
    made = {
        made_by(shlex.split(line)) for path in bases_of(shipped_configs()[name]) for line in commands_of(path)
    }
    dataset = load_config(name).train_dataloader.dataset
    for part in dataset.get("parts", [dataset]):
        read = {part.get("superpixels"), (part.get("views") or {}).get("features")} - {None}
        assert read <= made, f"{name}: no command in its comment makes {', '.join(sorted(read - made))}"


def commands_of(config: Path) -> list[str]:
    """Commands in the comment at the top of a config; continued lines joined."""
    comment = re.match(r"(#.*\n)+", config.read_text(encoding="utf-8"))
    text = re.sub(r"\\\n#\s*", "", comment[0]) if comment else ""
    return re.findall(r"^#\s+((?:superflow|torchrun) .*)$", text, re.MULTILINE)


def bases_of(config: Path) -> list[Path]:
    """The config and all that it is made of."""
    named = re.search(r"^_base_ = (\[.*\])$", config.read_text(encoding="utf-8"), re.MULTILINE)
    bases = ast.literal_eval(named[1]) if named else []
    return [config, *(path for base in bases for path in bases_of(config.parent / base))]


def made_by(command: list[str]) -> str | None:
    """The folder of superpixels or features that a command makes."""
    if command[:3] not in (["superflow", "prepare", "superpixels"], ["superflow", "prepare", "features"]):
        return None
    args = import_module("superflow.tools.prepare").parse_args(command[2:])
    kind, maker = ("superpixels", args.provider) if args.kind == "superpixels" else ("features", args.teacher)
    return str(args.out or args.index / kind / maker)
