"""Training on questions: what is learned from, by how much, and that it is learned from the scan."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.halfway import Halfway
from superflow.agents.vlm.sft import (
    Example,
    Recipe,
    answers,
    balanced_loss,
    collate,
    encode,
    train,
    trl_trainer,
)
from superflow.agents.vlm.tokenizer import chat_template
from superflow.errors import InputError

GRID = {"grid": BevGrid(rows=8, columns=8, cell_m=2.5, tile=8), "merge": 4}
QUESTION = "How many cars are ahead?"


@pytest.fixture
def vlm(make_vlm):
    """A blind one: its scans are ready planes in which as many cells ahead are lit as the answer says."""
    model, processor = make_vlm(backbone=None, channels=6, **GRID)
    processor.scans = {}
    for number in range(12):
        planes = torch.zeros(7, 8, 8)
        generator = torch.Generator().manual_seed(number)
        cells = torch.randperm(4, generator=generator)[: number % 4]
        planes[:, cells // 2 * 4, cells % 2 * 4] = 2.0
        processor.scans[f"scan {number}"] = planes
    return model, processor


def examples(numbers=range(12)) -> list[Example]:
    return [Example(f"scan {n}", QUESTION, str(n % 4)) for n in numbers]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_only_the_answer_and_its_end_are_learned(vlm):
    _, processor = vlm
    ids, labels = encode(processor, Example("scan 3", QUESTION, "3"))
    assert processor.decode(labels[labels != -100]) == "3<|im_end|>"
    assert torch.equal(ids[labels != -100], labels[labels != -100])
    batch = collate(
        processor,
        some := [Example("scan 3", QUESTION, "3"), Example(None, "Is there a bus?", "no")],
        [encode(processor, example) for example in some],
    )
    assert batch["pixel_values"].shape == (1, 7, 8, 8)
    assert batch["lidar_rows"].tolist() == [0]
    assert batch["attention_mask"].sum(1).tolist() == [len(encode(processor, e)[0]) for e in some]
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_a_question_may_come_before_its_scan(vlm):
    """The same words and places, the other way round, in training and when it is asked."""
    _, processor = vlm
    example, without = Example("scan 3", QUESTION, "3"), Example(None, QUESTION, "3")
    blind = encode(processor, without)[0].tolist()
    for first in (False, True):
        processor.chat_template = chat_template(question_first=first)
        ids, labels = encode(processor, example)
        places = (ids == processor.lidar_token_id).nonzero()[:, 0]
        text = processor.decode(ids[: places[0]] if first else ids[places[-1] + 1 :])
        assert QUESTION in text
        assert len(places) == processor.tokens_per_scan
        assert processor.decode(labels[labels != -100]) == "3<|im_end|>"
        assert encode(processor, without)[0].tolist() == blind
    turn = [
        {"type": "lidar"},
        {"type": "text", "text": "a"},
        {"type": "lidar"},
        {"type": "text", "text": "b"},
    ]
    written = {
        first: processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": turn}],
            chat_template=chat_template(question_first=first),
            tokenize=False,
        )
        for first in (False, True)
    }
    scan = "<LIDAR_CONTEXT>\n"
    assert written[False] == f"<|im_start|>user\n{scan}a{scan}b<|im_end|>\n"
    assert written[True] == f"<|im_start|>user\nab\n{scan}{scan}<|im_end|>\n"


def test_balanced_loss_against_a_loop():
    logits = torch.randn(3, 6, 5, generator=seeded())
    labels = torch.tensor([[-100, -100, 1, 2, 3, 4], [-100, 0, -100, -100, -100, -100], [-100] * 6])
    total, weight = 0.0, 0.0
    for row in range(3):
        learned = [t for t in range(1, 6) if labels[row, t] != -100]
        for t in learned:
            total += len(learned) ** -0.5 * -float(logits[row, t - 1].log_softmax(0)[labels[row, t]])
            weight += len(learned) ** -0.5
    assert float(balanced_loss(logits, labels)) == pytest.approx(total / weight, rel=1e-5)


def test_logits_of_answers_alone_give_the_same_loss(make_vlm, vlm):
    """Answers of one and of several words stand at different places of their rows."""

    def run(**options):
        model, processor = make_vlm(backbone=None, channels=6, **GRID)
        processor.scans = vlm[1].scans
        mixed = [*examples(range(5)), Example("scan 5", "Which?", "the bus behind me")]
        recipe = Recipe(steps=2, batch=6, **options)
        return train(model, processor, mixed, recipe, generator=seeded()), model.lm_head.weight.detach()

    (all_losses, whole), (some_losses, part) = run(), run(answers_only=True)
    assert some_losses == pytest.approx(all_losses, rel=1e-5)
    assert torch.allclose(whole, part, atol=1e-4)
    rough, _ = run(bfloat16=True)
    assert rough == pytest.approx(all_losses, rel=0.02)
    assert rough != all_losses


def test_a_stopped_training_goes_on_as_if_it_had_not_been(make_vlm, vlm, tmp_path):
    """Weights and losses bit by bit, also of the head that points and is thrown away."""

    class Stop(Exception):
        pass

    def stop(_stage, done, _steps):
        if done == 3:
            raise Stop

    def run(halfway=None, progress=lambda *_: None):
        model, processor = make_vlm(backbone=None, channels=6, **GRID)
        processor.scans = vlm[1].scans
        targets = [torch.ones(processor.tokens_per_scan, 2) * (n % 3) for n in range(12)]
        recipe = Recipe(steps=5, batch=5)
        options = {"pointing": targets, "halfway": halfway, "progress": progress}
        losses = train(model, processor, examples(), recipe, generator=seeded(), **options)
        return losses, model.state_dict()

    path = tmp_path / "here.pt"
    with pytest.raises(Stop):
        run(Halfway(path, every_s=0.0), stop)
    half = Halfway(path, every_s=0.0)
    (losses, weights), (again, rest) = run(), run(half)
    assert again == losses
    assert all(torch.equal(value, rest[name]) for name, value in weights.items())
    assert half.spent > 0
    told = []
    assert run(half, lambda *done: told.append(done))[0] == losses  # nothing is left to do
    assert told == [("training on questions", 5, 5)]
    half.remove()
    assert not path.exists()


def test_what_is_not_of_the_training_is_refused(vlm, tmp_path):
    path = tmp_path / "here.pt"
    for content in (b"nonsense", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"here\.pt: is not what this training left; delete"):
            train(*vlm, examples(), Recipe(steps=1), generator=seeded(), halfway=Halfway(path))


def test_every_example_comes_once_before_one_comes_again(vlm, monkeypatch):
    from superflow.agents.vlm import sft

    seen = []
    monkeypatch.setattr(
        sft, "collate", lambda p, chosen, rows: seen.extend(chosen) or collate(p, chosen, rows)
    )
    sft.train(*vlm, examples(), Recipe(steps=6, batch=4), generator=seeded())
    assert (
        sorted(e.scan for e in seen[:12])
        == sorted(e.scan for e in examples())
        == sorted(e.scan for e in seen[12:])
    )


def test_it_learns_to_count_from_the_scan(vlm):
    model, processor = vlm
    told = []
    losses = train(
        model,
        processor,
        examples(),
        Recipe(steps=120, batch=12, learning_rate=5e-3),
        generator=seeded(),
        progress=lambda *done: told.append(done),
    )
    assert told[-1] == ("training on questions", 120, 120)
    assert losses[-1] < 0.1 * losses[0]
    asked = examples()
    assert answers(model, processor, asked, batch=5) == [e.answer for e in asked]
    processor.scans = {
        name: processor.scans[f"scan {int(name.split()[1]) // 4 * 4}"] for name in processor.scans
    }
    # other scans, other answers: it was not learned by heart
    assert set(answers(model, processor, asked)) == {"0"}


def test_the_same_seed_gives_the_same_model(make_vlm, vlm):
    def run(seed):
        model, processor = make_vlm(backbone=None, channels=6, **GRID)
        processor.scans = vlm[1].scans
        return train(model, processor, examples(), Recipe(steps=3, batch=5), generator=seeded(seed))

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_trl_trains_the_same_examples(make_vlm, scan, tmp_path):
    pytest.importorskip("trl")
    model, processor = make_vlm(learns="open", **GRID)
    processor.scans = {f"scan {n}": scan(n) for n in range(4)}
    trainer = trl_trainer(
        model,
        processor,
        examples(range(4)),
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    rows = trainer.data_collator([dict(trainer.train_dataset[i]) for i in range(4)])
    for row, example in zip(rows["labels"], examples(range(4))):
        ids, labels = encode(processor, example)
        learned = processor.decode(row[row != -100])
        assert learned == f"{example.answer}<|im_end|>\n"  # trl learns the line break after it, too
        assert processor.decode(labels[labels != -100]) == learned.strip()
        assert ids.tolist() == rows["input_ids"][example_index(example)][: len(ids)].tolist()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.train()
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value.cpu(), before[name])
    }
    for part in ("lidar_tower.backbone.encoder", "connector.linear_1", "language_model.layers.0"):
        assert any(part in name for name in changed), part  # A6: none is left out
    with pytest.raises(InputError, match="trl takes examples with a scan each"):
        trl_trainer(model, processor, [Example(None, QUESTION, "1")], tmp_path)


def example_index(example: Example) -> int:
    return int(example.scan.split()[1])


def test_lora_learns_little_and_merges(vlm):
    pytest.importorskip("peft")
    from superflow.agents.vlm.lora import add_lora

    model, processor = vlm
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = add_lora(model, rank=2, upper=1)
    learning = [name for name, p in small.named_parameters() if p.requires_grad]
    assert all("layers.1." in name or "connector" in name for name in learning)
    assert any("lora_A" in name for name in learning)
    train(small, processor, examples(), Recipe(steps=4, batch=6, learning_rate=1e-2), generator=seeded())
    batch = collate(processor, examples(), [encode(processor, e) for e in examples()])
    logits = small(**batch).logits
    merged = small.merge_and_unload()
    assert torch.allclose(merged(**batch).logits, logits, atol=1e-4)
    changed = {name for name, value in merged.state_dict().items() if not torch.equal(value, before[name])}
    assert any("layers.1.self_attn.q_proj" in name for name in changed)
    assert any("connector.linear_2" in name for name in changed)
    assert not any("layers.0" in name or "embed_tokens" in name or "lidar_tower" in name for name in changed)
    assert type(merged) is type(model)


def test_refusals(vlm, make_vlm):
    model, processor = vlm
    with pytest.raises(InputError, match="no questions to train on"):
        train(model, processor, [], generator=seeded())
    model.requires_grad_(False)
    with pytest.raises(InputError, match="no part of the model may learn"):
        train(model, processor, examples(), generator=seeded())
    pytest.importorskip("peft")
    from superflow.agents.vlm.lora import add_lora

    with pytest.raises(InputError, match="upper is 3; the language model has 2 layers"):
        add_lora(model, upper=3)
    with pytest.raises(InputError, match="with LoRA the backbone stays as it is"):
        add_lora(make_vlm(learns="open")[0])
