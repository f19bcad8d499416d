"""Messages with scans: the chat form, and as many placeholders as tokens in every row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm.tokenizer import LIDAR, add_lidar_tokens, small_tokenizer
from superflow.errors import InputError


@pytest.fixture
def processor(make_vlm):
    return make_vlm()[1]


def message(*parts):
    return [{"role": "user", "content": [{"type": kind, kind: value} for kind, value in parts]}]


def test_chat_form(processor, scan):
    chat = [
        {"role": "system", "content": "Be short."},
        *message(("lidar", scan()), ("text", "How many cars?")),
        {"role": "assistant", "content": "3"},
    ]
    said = processor.apply_chat_template(chat)
    assert said == (
        "<|im_start|>system\nBe short.<|im_end|>\n"
        "<|im_start|>user\n<LIDAR_CONTEXT>\nHow many cars?<|im_end|>\n"
        "<|im_start|>assistant\n3<|im_end|>\n"
    )
    asked = processor.apply_chat_template(chat[:2], add_generation_prompt=True)
    assert said.startswith(asked)
    assert asked.endswith("<|im_start|>assistant\n")


def test_every_row_has_as_many_placeholders_as_tokens(processor, scan):
    rows = [f"{LIDAR} a", "b", f"{LIDAR}{LIDAR}"]
    batch = processor([[scan(0)], [], [scan(1), scan(2, 50)]], rows, padding=True, return_tensors="pt")
    found = (batch["input_ids"] == processor.lidar_token_id).sum(1)
    assert found.tolist() == [32, 0, 64]
    assert batch["lidar_rows"].tolist() == [0, 2, 2]
    assert batch["points"].shape == (3, 200, 4)
    assert batch["points"][2, 50:].isnan().all()
    assert set(batch) == {"input_ids", "attention_mask", "points", "lidar_rows"}
    flat = processor([scan(0), scan(1), scan(2, 50)], rows, padding=True, return_tensors="pt")
    assert torch.equal(flat["points"].nan_to_num(), batch["points"].nan_to_num())


def test_names_are_looked_up_among_the_scans(processor):
    planes = torch.arange(7 * 8 * 16).reshape(7, 8, 16).float()
    processor.scans = {"a": planes}
    batch = processor(["a"], [f"{LIDAR}?"], return_tensors="pt")
    assert torch.equal(batch["pixel_values"], planes[None])
    assert "lidar_rows" not in batch
    with pytest.raises(InputError, match=r"the scan 'b' is not among the 1 that processor\.scans has"):
        processor(["b"], [f"{LIDAR}?"])


def test_marks_what_the_assistant_says(processor, scan):
    chat = [*message(("lidar", scan()), ("text", "How many?")), {"role": "assistant", "content": "3"}]
    batch = processor.apply_chat_template(
        chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    marked = batch["input_ids"][batch["assistant_masks"].bool()]
    assert processor.decode(marked) == "3<|im_end|>"


@pytest.mark.parametrize(
    ("images", "text", "options", "said"),
    [
        ([["p"], []], [f"{LIDAR}", f"{LIDAR}"], {}, "row 1 names 1 scans and is given 0"),
        (["p", "p"], [f"{LIDAR}"], {}, "row 0 names 1 scans and is given 2"),
        (None, [f"{LIDAR}"], {}, "row 0 names 1 scans and is given 0"),
        ([["p"]], ["a", "b"], {}, "scans for 1 rows and text for 2"),
        (
            [["p"]],
            [f"{LIDAR}"],
            {"truncation": True, "max_length": 20},
            "row 0 keeps 19 places for 1 scans of 32 tokens each; it was cut",
        ),
        (["p", "q"], [f"{LIDAR}{LIDAR}"], {}, "as planes and as points"),
        (["q", "r"], [f"{LIDAR}{LIDAR}"], {}, "come from different grids"),
        (["t"], [f"{LIDAR}"], {}, "a scan has no 'lidar_to_egp'; the nearest known one is 'lidar_to_ego'"),
        (["u"], [f"{LIDAR}"], {}, "as planes or as points; give one of them"),
        (["s"], [f"{LIDAR}"], {}, r"a scan is \(3,\); give points"),
        (["p"], None, {}, "there is no text"),
    ],
)
def test_refusals(processor, images, text, options, said):
    planes = torch.zeros(7, 8, 16)
    processor.scans = {"p": torch.zeros(5, 4), "q": planes, "r": planes[:, :4], "s": torch.zeros(3)}
    processor.scans["t"] = {"points": torch.zeros(5, 4), "lidar_to_egp": np.eye(4)}
    processor.scans["u"] = {"points": torch.zeros(5, 4), "planes": planes}
    with pytest.raises(InputError, match=said):
        processor(images, text, **options)


def test_unknown_parts_are_refused(processor):
    with pytest.raises(Exception, match="a part of a message is audio; there are text and lidar"):
        processor.apply_chat_template(message(("audio", "x")))


def test_small_tokenizer():
    texts = ["How many cars are ahead?", "no", "yes"]
    tokenizer = small_tokenizer(texts)
    again = small_tokenizer(reversed(texts))
    assert tokenizer.get_vocab() == again.get_vocab()
    for text in [*texts, "Grüße an 3 Züge <|im_start|>"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("yes")["input_ids"]) == 1
    before = len(tokenizer)
    add_lidar_tokens(tokenizer)
    add_lidar_tokens(tokenizer)
    assert len(tokenizer) == before + 3
    assert len(tokenizer(LIDAR)["input_ids"]) == 1
