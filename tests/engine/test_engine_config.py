from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import CONFIG

from superflow.engine import load_config
from superflow.engine.config import find_config, parse_options, shipped_configs
from superflow.engine.keys import check_config, top_places
from superflow.errors import InputError, MissingFileError
from superflow.tools.train import main as train_main

PRETRAINER = {
    "type": "Pretrainer",
    "student": {"grid": {"type": "cubic", "size_m": 0.2}, "backbone": {"depth": "tiny"}},
    "teacher": {"name": "efficientnet_lite0"},
    "objectives": [{"type": "spatial", "weight": 1.0, "temperature": 0.07}],
}


def written(folder: Path, text: str) -> Path:
    path = folder / "written.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width=8", "widht=8", r"model\.widht: nothing reads this key; the nearest known one is 'width'"),
        ("items=7", "itmes=7", r"train_dataloader\.dataset\.itmes: .* 'items'"),
        ("batch_size=2, num", "batchsize=2, num", r"train_dataloader\.batchsize: .* 'batch_size'"),
        (
            "items=7",
            "items=7, occlusion_cell_px=8",
            r"dataset\.occlusion_cell_px: nothing .*; leave it out: how far beams",
        ),
        (
            "items=7",
            "items=7, offset_unit=8",
            r"dataset\.offset_unit: .*; PretrainDataset has it as times\.unit",
        ),
        ("items=7", "items=7, selection=1", r"dataset\.selection: .*; SegmentDataset has it as frames"),
        ("lr=0.01", "learning_rate=0.01", r"optim_wrapper\.optimizer\.learning_rate: nothing reads"),
        ("clip_grad", "grad_clip", r"optim_wrapper\.grad_clip: .* 'clip_grad'"),
        ('type="OneCycleLR"', 'type="OneCycleLR", max_lr=1', r"param_scheduler\.max_lr: .* 'eta_max'"),
        (
            'type="OneCycleLR"',
            'type="OneCycelLR"',
            r"param_scheduler\.type: there is no 'OneCycelLR'.* 'OneCycleLR'",
        ),
        ('type="ToyModel"', 'type="ToyModle"', r"model\.type: there is no 'ToyModle'.* 'ToyModel'"),
        ("val_interval", "val_intreval", r"train_cfg\.val_intreval: .* 'val_interval'"),
        ("momentum=0.1", "momntum=0.1", r"custom_hooks\[0\]\.momntum: .* 'momentum'"),
        ("interval=3", "intervall=3", r"default_hooks\.checkpoint\.intervall: .* 'interval'"),
        ("custom_hooks", "custom_hook", r"written\.py:\d+: nothing reads 'custom_hook'; .* 'custom_hooks'"),
        ("by_epoch=False", "by_epcoh=False", r"log_processor\.by_epcoh: .* 'by_epoch'"),
        (
            'dict(type="ToyDataset", items=7)',
            'dict(type="ToyDataset")',
            r"dataset: has no 'items', which it needs",
        ),
        (
            'dict(type="ToyModel", width=8)',
            "dict(width=8)",
            r"model: has no 'type'; choose one of .*ToyModel",
        ),
        ('dict(type="ToyModel", width=8)', "8", r"model: is 8; it must be a dict"),
        ("val_cfg = dict()", "compile = True", r"written\.py:\d+: nothing reads 'compile'"),
        ("val_cfg = dict()", "val_cfg = dict(", r"written\.py:\d+: is no valid Python"),
        ("val_cfg = dict()", "val_cfg = dict(a=b)", r"written\.py: cannot be read \(NameError: name 'b'"),
    ],
)
def test_a_key_that_nothing_reads_names_the_nearest(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CONFIG
    with pytest.raises(InputError, match=message):
        load_config(written(tmp_path, CONFIG.replace(old, new, 1)))


def test_knobs_of_an_objective_are_those_of_its_own_and_of_the_contrast_behind_it() -> None:
    knobs = {"queue": 4096, "learn_temperature": True, "same_id": "ignored", "max_rows": 64}
    known = {"type": "spatial", **knobs}
    check_config({"model": {**PRETRAINER, "objectives": [known, {"type": "point_contrast", "max_pairs": 9}]}})
    with pytest.raises(InputError, match=r"objectives\[0\]\.queu: .* 'queue'"):
        check_config({"model": {**PRETRAINER, "objectives": [{"type": "spatial", "queu": 4}]}})
    with pytest.raises(InputError, match=r"objectives\[0\]\.learn_temperature: nothing reads this key"):
        check_config(
            {"model": {**PRETRAINER, "objectives": [{"type": "point_regression", "learn_temperature": True}]}}
        )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "model.widht",
            r"--cfg-options model\.widht: model has no 'widht'; the nearest known key is 'width'",
        ),
        ("modle.width", r"the config has no 'modle'; the nearest known key is 'model'"),
        ("train_cfg.iterations", r"train_cfg has no 'iterations'"),
        (
            "train_dataloader.dataset.occlusion_cell_px",
            r"has no 'occlusion_cell_px'; leave it out: how far beams",
        ),
        ("train_dataloader.dataset.view_size", r"has no 'view_size'; PretrainDataset has it as views\.size"),
        ("optim_wrapper.optimizer.learnrate", r"optim_wrapper\.optimizer has no 'learnrate'"),
        ("custom_hooks.1.momentum", r"custom_hooks is a list of 1, '1' is none of it"),
        ("model.width.depth", r"model\.width is 8 and has no keys"),
        ("steps", r"'steps' is a variable of the config file, which was used when the file was read"),
    ],
)
def test_an_option_that_nothing_reads_names_the_nearest(tmp_path: Path, key: str, message: str) -> None:
    text = "steps = 12\n" + CONFIG.replace("max_iters=12", "max_iters=steps")
    with pytest.raises(InputError, match=message):
        load_config(written(tmp_path, text), options={key: 1})


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("0001", "0001"),
        ("[0001,0002]", ["0001", "0002"]),
        ("0001,0002", ["0001", "0002"]),
        ("(train,val)", ["train", "val"]),
        ("[::2]", "[::2]"),
        ("[[::2]]", ["[::2]"]),
        ("[0:9],[-5:]", ["[0:9]", "[-5:]"]),
        ("[a[0:4],b]", ["a[0:4]", "b"]),
        ("a[0:4]", "a[0:4]"),
        ("train@10%", "train@10%"),
        ("Tuesday drive", "Tuesday drive"),
        ('["Tuesday drive[::2]", "12"]', ["Tuesday drive[::2]", "12"]),
        ("None", None),
    ],
)
@pytest.mark.parametrize("key", ["train_dataloader.dataset.frames", "val_dataloader.dataset.frames"])
def test_frames_of_an_option_are_terms_as_they_are_written(key: str, text: str, terms: Any) -> None:
    assert parse_options([f"{key}={text}"]) == {key: terms}


def test_without_a_config_options_are_what_they_look_like() -> None:
    assert parse_options(["a.width=0001", "b=[1,(x,2.5)]"]) == {"a.width": 1, "b": [1, ("x", 2.5)]}
    with pytest.raises(InputError, match=r"--cfg-options b=\[1,2: a bracket is not closed"):
        parse_options(["b=[1,2"])


PATHS = ["my wd", "a,b", "007", "1e5", "true", "[x]", "x (old", "a=b", "it's", "None such"]
TEXT_KEYS = [
    *("work_dir", "load_from", "experiment_name", "data_root", "default_hooks.checkpoint.save_best"),
    *("visualizer.vis_backends.0.save_dir", "param_scheduler.anneal_strategy"),
]


def value_at(config: Any, key: str) -> Any:
    for step in key.split("."):
        config = config[int(step) if step.isdigit() else step]
    return config


@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("text", PATHS)
def test_text_stays_text_for_keys_that_take_text(tmp_path: Path, text: str, quote: str) -> None:
    backends = CONFIG.replace("vis_backends=[]", 'vis_backends=[dict(type="LocalVisBackend")]')
    file = written(tmp_path, backends + 'data_root = "data"\n')
    config = load_config(file, options=[f"{key}={quote}{text}{quote}" for key in TEXT_KEYS])
    assert {key: value_at(config, key) for key in TEXT_KEYS} == dict.fromkeys(TEXT_KEYS, text)


@pytest.mark.parametrize("text", PATHS)
@pytest.mark.parametrize(
    "key", ["index", "views.features", "superpixels", "frames", "region", "times.border"]
)
def test_text_stays_text_for_keys_of_shipped_configs(key: str, text: str) -> None:
    key = f"train_dataloader.dataset.{key}"
    config = load_config("pretrain/superflowpp_small.py", options=[f'{key}="{text}"'])
    assert value_at(config, key) == text


def test_lists_of_names_are_lists_of_text() -> None:
    key = "model.student.inputs"
    config = load_config("pretrain/superflowpp_small.py", options=[f"{key}=[height,1]"])
    assert value_at(config, key) == ["height", "1"]


def test_paths_of_the_command_line_are_as_they_are_written(
    toy_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy_config.parent)
    quick = ["--cfg-options", "train_cfg.max_iters=1", "custom_hooks=[]"]
    for name in ("my wd", "a,b", "007"):
        assert train_main([str(toy_config), "--work-dir", name, *quick]) == 0
        assert (toy_config.parent / name / "iter_1.pth").is_file()
        assert train_main([str(toy_config), *quick, f"work_dir={name} option"]) == 0
        assert (toy_config.parent / f"{name} option" / "iter_1.pth").is_file()


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", ["work_dir", "data_root", "load_from", "resume"])
def test_an_empty_path_is_refused(tmp_path: Path, name: str, empty: str) -> None:
    file = written(tmp_path, CONFIG + 'data_root = "data"\n')
    with pytest.raises(InputError, match=f"^{name}: is empty; give a path, or leave it out$"):
        load_config(file, **{name: empty})
    if name != "resume":
        with pytest.raises(InputError, match=f"^{name}: is empty"):
            load_config(file, options=[f"{name}={empty}"])


@pytest.mark.parametrize(
    "key",
    [
        *("", ".", "model.", ".width", "model..width", "model.width.depth", "default_hooks.logger."),
        *("optim_wrapper.optimizer.betas.x", "randomness.seed.x", "train_dataloader.pin_memory.x"),
        *("find_unused_parameters.x", "load_from.x", "custom_imports.y", "env_cfg.dist_cfg.z"),
        "optim_wrapper.clip_grad.max_nrom",
    ],
)
def test_no_suggestion_is_empty(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=r"^--cfg-options ") as caught:
        load_config(written(tmp_path, CONFIG), options=[f"{key}=1"])
    assert "is ''" not in str(caught.value)
    assert "has no ''" not in str(caught.value)


def test_options_reach_into_what_is_none_or_free(tmp_path: Path) -> None:
    file = written(tmp_path, CONFIG.replace("clip_grad=dict(max_norm=5.0)", "clip_grad=None"))
    custom = "optim_wrapper.paramwise_cfg.custom_keys"
    options = ["optim_wrapper.clip_grad.max_norm=1.5", f"{custom}.backbone.lr_mult=0.5"]
    config = load_config(file, options=options)
    assert config.optim_wrapper.clip_grad == {"max_norm": 1.5}
    assert value_at(config, custom) == {"head": {"lr_mult": 10.0}, "backbone": {"lr_mult": 0.5}}
    with pytest.raises(
        InputError, match=r"custom_keys\.head has no 'lr_mlut'; the nearest known key is 'lr_mult'"
    ):
        load_config(file, options=[f"{custom}.head.lr_mlut=1"])


def test_options_reach_what_the_file_does_not_name(tmp_path: Path) -> None:
    options = {
        "model.dropout": 0.5,  # an argument that the file leaves out
        "param_scheduler.pct_start": 0.1,
        "custom_hooks.0.begin_iter": 2,
        "optim_wrapper.optimizer.betas": (0.8, 0.9),
        "find_unused_parameters": True,
    }
    config = load_config(written(tmp_path, CONFIG), options=options, seed=5, work_dir=tmp_path / "w")
    assert config.model.dropout == 0.5
    assert config.custom_hooks[0].begin_iter == 2
    assert config.optim_wrapper.optimizer.betas == (0.8, 0.9)
    assert (config.randomness.seed, config.work_dir) == (5, str(tmp_path / "w"))


def test_options_reach_what_is_handed_on() -> None:
    """As a file may name them: a teacher's own knobs, which its maker looks at."""
    options = ["model.teacher.path=a.safetensors", "model.teacher.output=after_norm"]
    teacher = load_config("pretrain/superflowpp.py", options=options).model.teacher
    assert (teacher.path, teacher.output) == ("a.safetensors", "after_norm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectivs": []}, r"model\.objectivs: .* 'objectives'"),
        ({"student": {"grid": {}, "backbone": {"dept": 18}}}, r"model\.student\.backbone\.dept: .* 'depth'"),
        ({"student": {"backbone": {}}}, r"model\.student: has no 'grid', which it needs"),
        (
            {"student": {"grid": {}, "backbone": {}, "reduction": 1}},
            r"model\.student\.reduction: .* 'reduce'",
        ),
        (
            {"objectives": [{"type": "spatail"}]},
            r"model\.objectives\[0\]\.type: there is no 'spatail'.* 'spatial'",
        ),
        (
            {"objectives": [{"type": "spatial", "temprature": 1}]},
            r"model\.objectives\[0\]\.temprature: .* 'temperature'",
        ),
        (
            {"objectives": [{"type": "point_regression", "temperature": 1}]},
            r"\[0\]\.temperature: nothing reads",
        ),
    ],
)
def test_arguments_of_the_real_model_are_checked(change: dict[str, Any], message: str) -> None:
    check_config({"model": PRETRAINER})
    with pytest.raises(InputError, match=message):
        check_config({"model": {**PRETRAINER, **change}})


def test_data_root_moves_every_path_below_it(tmp_path: Path) -> None:
    text = CONFIG + (
        'data_root = "data/log"\n'
        'visualizer = dict(type="Visualizer", vis_backends=[], save_dir=data_root + "/pictures")\n'
        'load_from = "data/logbook/x.pth"\n'
        "experiment_name = data_root\n"
    )
    config = load_config(written(tmp_path, text), data_root="/disk/")
    assert (config.data_root, config.visualizer.save_dir) == ("/disk", "/disk/pictures")
    assert (config.experiment_name, config.load_from) == ("/disk", "data/logbook/x.pth")
    assert load_config(written(tmp_path, text), options={"data_root": "/disk"}).data_root == "/disk"
    (tmp_path / "base.py").write_text('data_root = "old"\nload_from = data_root + "/x.pth"\n')
    inherited = load_config(written(tmp_path, CONFIG + '_base_ = ["base.py"]\ndata_root = "new"\n'))
    assert inherited.load_from == "new/x.pth"
    with pytest.raises(InputError, match="has no data_root that --data-root could replace"):
        load_config(written(tmp_path, CONFIG), data_root="/disk")


def test_a_missing_config_is_named_with_the_nearest_shipped_one(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.py: there is no such config; the nearest"):
        load_config(tmp_path / "nowhere.py")
    base = next(iter(shipped_configs()), None)
    if base is not None:
        assert find_config(base).is_file()
        assert find_config(f"configs/{base}") == find_config(base.removesuffix(".py"))


def test_base_files_are_leaves(repository: Path) -> None:
    bases = sorted((repository / "configs" / "_base_").glob("*.py"))
    assert {base.stem for base in bases} >= {"runtime", "onecycle"}
    assert not [base for base in bases if "_base_ =" in base.read_text()]


def test_what_the_base_shows_in_a_comment_can_be_used(repository: Path, tmp_path: Path) -> None:
    text = (repository / "configs" / "_base_" / "runtime.py").read_text()
    shown = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# custom_hooks = ")]
    assert len(shown) == 1
    config = load_config(written(tmp_path, text + shown[0]))
    assert config.custom_hooks[0].type == "EMAHook"


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_config_is_free_of_keys_that_nothing_reads(name: str) -> None:
    config = load_config(name)
    assert config.default_scope == "superflow"


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_a_killed_run_of_a_shipped_config_has_something_to_go_on_from(name: str) -> None:
    config = load_config(name)
    # key frames, 8 GPUs
    length = config.train_cfg.get("max_iters") or config.train_cfg.max_epochs * 24_000 / 32
    assert 1 <= config.default_hooks.checkpoint.interval <= length / 4


def test_amp_on_a_cpu_is_refused_with_the_reason(toy_config: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        InputError, match="--amp: mixed precision needs a CUDA device: bf16 on a CPU is 20-40"
    ):
        load_config(toy_config, amp=True)


def test_every_key_of_the_runner_is_known() -> None:
    assert {"model", "train_dataloader", "param_scheduler", "default_hooks", "launcher", "resume"} <= set(
        top_places()
    )
