"""The model: scans take their places row by row, and what is saved comes back exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from safetensors.torch import load_file, save_file

from superflow.agents.vlm import load_vlm
from superflow.agents.vlm.tower import planes_of
from superflow.errors import InputError, MissingFileError
from superflow.hub.backbone import Backbone

from .asking import QUESTION, ask


@pytest.fixture
def vlm(make_vlm):
    return make_vlm()


def test_merge_against_a_loop(vlm, scan):
    model, processor = vlm
    batch = ask(processor, [scan(0), scan(1)], [], [scan(2)])
    tokens = model.get_lidar_features(points=batch["points"])
    words = model.get_input_embeddings()(batch["input_ids"])
    merged = model.model.merge(batch["input_ids"], words, tokens, batch["lidar_rows"])
    own = {0: [*tokens[0], *tokens[1]], 1: [], 2: [*tokens[2]]}
    for row, ids in enumerate(batch["input_ids"].tolist()):
        left = list(own[row])
        for place, token in enumerate(ids):
            expected = left.pop(0) if token == processor.lidar_token_id else words[row, place]
            assert torch.equal(merged[row, place], expected)
        assert not left


def test_one_too_many_here_and_one_too_few_there_is_seen(vlm, scan):
    model, processor = vlm
    batch = ask(processor, [scan(0)], [scan(1)])
    ids = batch["input_ids"].clone()
    word = int(ids[0, -1])
    ids[0][(ids[0] == processor.lidar_token_id).nonzero()[0]] = word
    ids[1, -1] = processor.lidar_token_id
    # the batch alone looks right
    assert (ids == processor.lidar_token_id).sum() == 2 * processor.tokens_per_scan
    with pytest.raises(InputError, match=r"row 0 has 31 LiDAR placeholders and 32 tokens"):
        model(**{**batch, "input_ids": ids})


def test_ways_into_the_model_give_the_same_logits(vlm, scan, small_backbone):
    """Points, planes that were made before, and tokens that were made elsewhere."""
    model, processor = vlm
    scans = [scan(0), scan(1, 150)]
    batch = ask(processor, [scans[0]], [scans[1]])
    logits = model(**batch).logits
    grid = model.config.tower_config.bev
    planes = [planes_of(small_backbone, s, grid) for s in scans]
    from_planes = ask(processor, *[[p] for p in planes])
    assert "pixel_values" in from_planes
    assert torch.equal(model(**from_planes).logits, logits)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    tokens = model.get_lidar_features(pixel_values=from_planes["pixel_values"])
    assert torch.equal(model(**text, lidar_embeds=tokens).logits, logits)
    assert not torch.equal(model(**text, lidar_embeds=tokens.flip(0)).logits, logits)


def test_planes_lie_in_the_frame_of_the_vehicle(vlm, scan):
    model, processor = vlm
    to_ego = torch.eye(4, dtype=torch.float64)
    to_ego[0, 3] = 2.5  # one row of cells ahead
    turned = ask(processor, [{"points": scan(0), "lidar_to_ego": to_ego}], [scan(0)])
    moved, still = model.model.get_lidar_planes(turned["points"], turned["lidar_to_ego"])
    assert torch.allclose(moved[:, :-1], still[:, 1:])
    assert not torch.allclose(moved, still)


def test_generation_against_a_loop_without_cache(vlm, scan):
    model, processor = vlm
    batch = ask(processor, [scan(0)], [scan(1)])
    written = model.generate(**batch, max_new_tokens=5, eos_token_id=None)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(5):
        logits = model(**{**batch, "input_ids": ids, "attention_mask": mask}).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        mask = torch.cat([mask, mask.new_ones(2, 1)], 1)
    assert torch.equal(written, ids)


def test_a_place_of_a_scan_is_no_word(vlm, scan):
    """A drawn one ended the answer: the next word found a place without a scan."""
    model, processor = vlm
    batch, word = ask(processor, [scan(0)]), processor.lidar_token_id
    for options in ({}, {"use_cache": False}, {"suppress_tokens": [5]}):
        bias = {(word,): 1000.0, (5,): 900.0, (6,): 800.0}
        written = model.generate(**batch, max_new_tokens=3, sequence_bias=bias, **options)
        expected = 6 if "suppress_tokens" in options else 5
        assert written[0, batch["input_ids"].shape[1] :].tolist() == [expected] * 3


def test_saved_and_loaded_is_the_same_model(vlm, scan, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = vlm
    batch = ask(processor, [scan(0)], [])
    logits = model(**batch).logits
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = load_vlm(tmp_path)
    same = ask(its_processor, [scan(0)], [])
    assert all(torch.equal(same[name], batch[name].nan_to_num()) or "points" in name for name in batch)
    assert torch.equal(again(**same).logits, logits)
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path)) is type(model)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(processor)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())  # no code of others


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_fit_are_refused(vlm, tmp_path, change):
    vlm[0].save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    if change == "missing":
        weights.pop("model.lidar_tower.backbone.encoder.backbone.stem.0.norm.weight")
    else:
        weights["model.connector.linear_3.weight"] = torch.zeros(2)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"do not fit its config.*1 {change} keys"):
        load_vlm(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", None),
        ("model.safetensors", b"cut"),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "qwen3"}'),
        ("tokenizer.json", b"[]"),
        ("chat_template.jinja", None),
    ],
)
def test_a_damaged_folder_is_said_in_one_sentence(vlm, tmp_path, name, content):
    """Each library has errors of its own for its files; nobody reads their tracebacks."""
    for each in vlm:
        each.save_pretrained(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"save .*again with save_pretrained") as said:
        load_vlm(tmp_path)
    assert str(tmp_path) in str(said.value)
    assert "\n" not in str(said.value)


def test_there_is_no_model(tmp_path):
    with pytest.raises(MissingFileError, match=r"no config\.json"):
        load_vlm(tmp_path)


@pytest.mark.parametrize("learns", ["frozen", "partly", "open"])
def test_what_of_the_backbone_learns(make_vlm, scan, learns):
    model, processor = make_vlm(learns=learns)
    tower = model.model.lidar_tower.backbone
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    model.train()
    batch = ask(processor, [scan(0)], [scan(1)])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**batch, labels=batch["input_ids"]).loss.backward()
    optimizer.step()
    changed = {name for name, value in tower.state_dict().items() if not torch.equal(value, before[name])}
    up = {name for name in before if ".resample." in name or ".blocks." in name}
    up = {name for name in up if int(name.split(".")[3]) >= 4}
    expected = {"frozen": set(), "partly": up, "open": set(before)}[learns]
    assert changed <= expected
    assert len(changed) >= 0.9 * len(expected)  # a bias before a ReLU that is shut everywhere may stay
    assert model.model.connector.linear_1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("intensity", ["0..1", "0..255"])
def test_in_training_points_are_shown_as_they_are_in_use(make_vlm, scan, small_backbone, intensity):
    """Those outside of the limits have no features, and the intensity is that of the backbone's own training."""
    small_backbone = Backbone(small_backbone.encoder, replace(small_backbone.card, intensity=intensity))
    model, _ = make_vlm(learns="open", backbone=small_backbone)
    tower = model.model.lidar_tower
    scans = [scan(0), scan(1, 90)]
    evaluated = tower(scans, [None, None])
    for layer in tower.modules():
        # training's way, evaluation's statistics
        layer.training = not isinstance(layer, torch.nn.BatchNorm1d)
    trained = tower(scans, [None, None])
    assert trained.requires_grad
    assert torch.allclose(trained, evaluated, atol=1e-5)
    assert not small_backbone.within_limits(scans[0]).all()


def test_trainers_find_the_whole_model_under_its_prefix(vlm):
    model, _ = vlm
    assert model.base_model is model.model
    assert model.model.lidar_tower is model.base_model.lidar_tower


def test_in_bfloat16_the_backbone_keeps_float32(vlm, tmp_path):
    from superflow.agents.vlm.model import LidarVLM

    vlm[0].save_pretrained(tmp_path)
    half = LidarVLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kinds = {name.startswith("model.lidar_tower"): p.dtype for name, p in half.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_new_words_get_the_mean_and_known_ones_stay(small_backbone):
    from superflow.agents.vlm.build import build
    from superflow.agents.vlm.language import tiny

    torch.manual_seed(0)
    language = tiny([QUESTION], width=32)
    table = language.model.get_input_embeddings().weight.detach().clone()
    model, processor = build(language, channels=6)
    rows = model.get_input_embeddings().weight
    assert torch.equal(rows[: len(table)], table)
    assert torch.allclose(rows[processor.lidar_token_id], table.mean(0), atol=1e-7)
    assert torch.equal(model.lm_head.weight, rows)


def test_refusals(vlm, make_vlm, scan):
    model, processor = vlm
    batch = ask(processor, [scan(0)])
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(InputError, match="keeps places for a scan and none is given"):
        model(**text)
    with pytest.raises(InputError, match=r"as planes .* or as points; give one"):
        model.get_lidar_features()
    with pytest.raises(
        InputError, match=r"planes of scans are \(1, 6, 8, 16\); give \(scans, 7, rows, columns\)"
    ):
        model(**text, pixel_values=torch.zeros(1, 6, 8, 16))
    with pytest.raises(InputError, match="lidar_embeds are what becomes of a scan"):
        model(**batch, lidar_embeds=torch.zeros(1, 32, 32))
    blind, _ = make_vlm(backbone=None, channels=6)
    with pytest.raises(InputError, match="this model has no backbone"):
        blind(**batch)
    with pytest.raises(
        InputError, match="connector is 'pixel_shufle'; the nearest known one is 'pixel_shuffle'"
    ):
        make_vlm(connector="pixel_shufle")
