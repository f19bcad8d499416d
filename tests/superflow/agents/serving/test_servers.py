"""Two servers answer as one process does."""

from __future__ import annotations

import base64
import threading
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra agents")
from superflow.agents.serving.halves import Eyes
from superflow.agents.serving.wire import HEADER, features_of, label_of
from superflow.agents.vlm import load_vlm, vir
from superflow.errors import InputError

from .client import lidar_url, npy

QUESTION = "How many cars are ahead?"


@pytest.fixture
def alone(folder):
    """The answer of one process: text, counts of tokens, and the features that it made."""
    model, processor = load_vlm(folder)

    def answer(*scans, tokens=12):
        parts = [{"type": "lidar", "lidar": scan} for scan in scans] + [{"type": "text", "text": QUESTION}]
        rows = processor.apply_chat_template(
            [[{"role": "user", "content": parts}]],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            made = {name: rows[name] for name in ("points", "lidar_to_ego") if name in rows}
            features = model.get_lidar_features(**made) if made else None
            written = model.generate(**rows, max_new_tokens=tokens)[0, rows["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(written, skip_special_tokens=True)
        return SimpleNamespace(
            text=text, prompt=rows["input_ids"].shape[1], written=len(written), features=features
        )

    return answer


def test_an_answer_is_that_of_one_process(both, alone, scan):
    eyes, voice = both()
    points = scan(0).numpy()
    alike = alone(points)
    said = voice.chat(lidar_url(points), QUESTION, max_tokens=12)
    assert said.status == 200, said.body
    answer = said.json()
    assert answer["choices"][0]["message"]["content"] == alike.text
    assert answer["usage"] == {
        "prompt_tokens": alike.prompt,
        "completion_tokens": alike.written,
        "total_tokens": alike.prompt + alike.written,
        "lidar_tokens": alike.features.shape[1],
    }
    looked = eyes.ask("POST", "/v1/perception?dtype=float32", npy(points), Content_Type="application/x-npy")
    label = label_of(looked.headers[HEADER])
    found = features_of(looked.body, label, model=label["model"], shape=tuple(alike.features.shape[1:]))
    assert torch.equal(found.tokens, alike.features[0])
    embeds = {
        "type": "lidar_embeds",
        "lidar_embeds": {"data": base64.b64encode(looked.body).decode(), **label},
    }
    again = voice.chat(embeds, QUESTION, max_tokens=12).json()
    assert again["choices"] == answer["choices"]
    assert again["usage"] == answer["usage"]


def test_a_stream_says_the_same(both, scan):
    _, voice = both()
    asked = [lidar_url(scan(1).numpy()), QUESTION]
    whole = voice.chat(*asked, max_tokens=12).json()
    streamed = voice.chat(*asked, max_tokens=12, stream=True, stream_options={"include_usage": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *events, usage, end = streamed.events()
    assert end == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    choices = [event["choices"][0] for event in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    said = "".join(choice["delta"].get("content", "") for choice in choices)
    assert said == whole["choices"][0]["message"]["content"]
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_scans_of_the_log_by_token(both, alone, small_index):
    _, voice = both()
    row = int(small_index.rows()[1])
    (token,) = small_index.tokens([row])
    frame = small_index.frame(row, cameras=(), labels=False, images=False)
    alike = alone({"points": frame.points[:, :4], "lidar_to_ego": frame.lidar_to_ego})
    part = {"type": "lidar_scene", "lidar_scene": {"token": token}}
    answer = voice.chat(part, QUESTION, max_tokens=12).json()
    assert answer["choices"][0]["message"]["content"] == alike.text
    sent = lidar_url(frame.points[:, :4], lidar_to_ego=frame.lidar_to_ego.tolist())
    assert voice.chat(sent, QUESTION, max_tokens=12).json()["choices"] == answer["choices"]
    assert {"token": token, "scene": small_index.scene(row)} in voice.get("/v1/scenes").json()["scenes"]


def test_two_scans_and_none(both, alone, scan):
    _, voice = both()
    scans = [scan(0).numpy(), scan(1, 150).numpy()]
    two = voice.chat(*map(lidar_url, scans), QUESTION, max_tokens=12).json()
    alike = alone(*scans)
    assert two["choices"][0]["message"]["content"] == alike.text
    assert two["usage"]["lidar_tokens"] == alike.features.shape[0] * alike.features.shape[1]
    none = voice.chat(QUESTION, max_tokens=12).json()
    assert none["usage"]["lidar_tokens"] == 0
    assert none["choices"][0]["message"]["content"] == alone().text


def test_words_are_drawn_from_all_of_them_at_their_temperature(folder):
    from superflow.agents.serving.halves import Voice

    voice = Voice(folder)
    ids = voice.prompt([("user", [QUESTION])], [], 1)

    def said(**options):
        given = {"answer_tokens": 1, "heard": lambda piece: None, "enough": threading.Event()}
        return voice.say(ids, [], **given, **options).text

    with torch.no_grad():
        logits = voice._model(input_ids=ids[None]).logits[0, -1]
    logits[voice._model.config.lidar_token_id] = -torch.inf  # a place of a scan is no word
    decode = voice._processor.tokenizer.decode
    places = []
    for seed in range(30):
        torch.manual_seed(seed)
        word = torch.multinomial((logits / 2).softmax(-1), 1)
        places.append(int((logits > logits[word]).sum()))
        assert said(temperature=2.0, seed=seed) == decode(word, skip_special_tokens=True)
    assert max(places) > 50  # of which transformers draws where nothing is said
    likeliest = decode(logits.argmax(), skip_special_tokens=True)
    for cold in (0.0, 5e-324, 1e-40, 1e-6):  # logits over these are infinite
        assert said(temperature=cold, seed=1) == likeliest


def test_bfloat16_is_the_features_rounded(both, alone, scan):
    eyes, _ = both()
    points = scan(2).numpy()
    looked = eyes.ask("POST", "/v1/perception", npy(points), Content_Type="application/x-npy")
    label = label_of(looked.headers[HEADER])
    exact = alone(points).features[0]
    found = features_of(looked.body, label, model=label["model"], shape=tuple(exact.shape))
    assert found.tokens.dtype == torch.bfloat16
    assert torch.equal(found.tokens, exact.to(torch.bfloat16))
    assert len(looked.body) == 2 * exact.numel()
    for same in ("Application/X-NPY", "application/x-npy; version=1"):
        assert eyes.ask("POST", "/v1/perception", npy(points), Content_Type=same).body == looked.body


def test_health_figures_and_stages(both, scan):
    eyes, voice = both()
    answer = voice.chat(lidar_url(scan(0).numpy()), QUESTION, max_tokens=4).json()
    stages = {stage["stage"]: stage for stage in answer["trace"]["stages"]}
    assert list(stages) == [
        "read",
        "perception",
        "perception.read",
        "perception.look",
        "perception.perception",
        "language",
    ]
    for stage in stages.values():
        assert stage["begin_s"] <= stage["end_s"]
    assert stages["read"]["end_s"] <= stages["perception"]["begin_s"] <= stages["perception.look"]["begin_s"]
    assert (
        stages["perception.look"]["end_s"] <= stages["perception"]["end_s"] <= stages["language"]["begin_s"]
    )
    assert voice.get("/v1/traces").json()["traces"] == [answer["trace"]]
    health = voice.get("/health").json()
    assert health["status"] == "ok"
    assert health["inside"] == 0
    assert health["perception"]["model"] == health["model"]
    for server, path in ((eyes, "/v1/perception"), (voice, "/v1/chat/completions")):
        figures = server.get("/metrics").body.decode()
        assert f'superflow_requests_total{{path="{path}",status="200"}} 1.0' in figures
        assert "superflow_requests_inside 0.0" in figures
    assert voice.get("/v1/models").json()["data"][0]["id"] == "vlm"


def test_routed_scans_are_answered_as_in_one_process(both, routed, scan):
    """Scans with unlike numbers of tokens in one chat; which tiles were kept is told, whole and streamed."""
    model, processor = load_vlm(routed)
    vir.route_with(processor, model, 0.5)
    scans = [scan(seed).numpy() for seed in (0, 7)]
    parts = [{"type": "lidar", "lidar": each} for each in scans] + [{"type": "text", "text": QUESTION}]
    rows = processor.apply_chat_template(
        [[{"role": "user", "content": parts}]],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        written = model.generate(**rows, max_new_tokens=12)[0, rows["input_ids"].shape[1] :]
    _, voice = both(model=routed, share=0.5)
    asked = [*map(lidar_url, scans), QUESTION]
    answer = voice.chat(*asked, max_tokens=12).json()
    assert answer["choices"][0]["message"]["content"] == processor.tokenizer.decode(
        written, skip_special_tokens=True
    )
    kept = rows["tiles_kept"].int().tolist()
    assert answer["tiles_kept"] == kept
    assert 0 < sum(map(sum, kept)) < 16
    assert answer["usage"]["lidar_tokens"] == int(model.model.token_counts(rows["tiles_kept"]).sum())
    assert answer["usage"]["prompt_tokens"] == rows["input_ids"].shape[1]
    streamed = voice.chat(*asked, max_tokens=12, stream=True, stream_options={"include_usage": True})
    assert streamed.events()[-2]["tiles_kept"] == kept
    listed = voice.get("/v1/scenes").json()
    assert (listed["merge"], listed["short_merge"], listed["grid"]["tile"]) == (2, 4, 4)


def test_a_router_without_that_budget(routed, folder):
    from superflow.agents.serving.halves import Eyes

    with pytest.raises(InputError, match=r"no budget 0\.3; it has 0\.25, 0\.5"):
        Eyes(routed, 0.3)
    with pytest.raises(InputError, match=r"no budget 0\.5; it has none"):
        Eyes(folder, 0.5)


@pytest.mark.parametrize("options", [{"backbone": None, "channels": 6}, {"cameras": 1, "camera_channels": 3}])
def test_a_model_that_no_request_serves_is_refused_before_the_first(make_vlm, tmp_path, options):
    """Each request was refused, as if it were at fault."""
    model, processor = make_vlm(**options)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no backbone, or takes images"):
        Eyes(tmp_path)
