from __future__ import annotations

import pytest
import torch
from engine_toy import ToyModel

from superflow.engine.optim import AmpOptimWrapper, OneCycleLR, build_optim_wrapper, parameter_groups
from superflow.engine.resume import load_moments
from superflow.errors import InputError

PARAMWISE = {"custom_keys": {"head": {"lr_mult": 10.0}}, "norm_decay_mult": 0.0, "bias_decay_mult": 0.5}


def wrapper(paramwise: dict | None = None):
    config = {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.1, "weight_decay": 0.01},
        "paramwise_cfg": paramwise,
    }
    return build_optim_wrapper(ToyModel(), config)


def test_parameters_are_grouped_by_their_multipliers() -> None:
    model = ToyModel()
    groups = parameter_groups(model, lr=0.1, weight_decay=0.01, paramwise=PARAMWISE)
    linear, norm, _, _ = model.backbone
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert found == {
        id(linear.weight): (0.1, 0.01),
        id(linear.bias): (0.1, 0.005),
        id(norm.weight): (0.1, 0.0),
        id(norm.bias): (0.1, 0.0),
        id(model.head.weight): (1.0, 0.01),
        id(model.head.bias): (1.0, 0.01),
    }
    assert len(groups) == 4


def test_frozen_parameters_are_in_no_group() -> None:
    model = ToyModel(freeze=True)
    groups = parameter_groups(model, lr=0.1, weight_decay=0.0, paramwise={})
    assert [id(p) for group in groups for p in group["params"]] == [id(p) for p in model.head.parameters()]


def test_a_key_that_fits_no_parameter_is_named() -> None:
    with pytest.raises(InputError, match=r"no trainable parameter is called like 'haed'.* backbone, head"):
        wrapper({"custom_keys": {"haed": {"lr_mult": 10.0}}})
    with pytest.raises(InputError, match="no parameter is trainable"):
        parameter_groups(ToyModel().requires_grad_(False), lr=0.1, weight_decay=0.0, paramwise={})


@pytest.mark.parametrize("eta_max", [None, 0.3])
def test_mistake_01_one_cycle_keeps_the_ratio_of_the_groups(eta_max: float | None) -> None:
    optim = wrapper(PARAMWISE)
    schedule = OneCycleLR(optim, eta_max=eta_max, total_steps=20)
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in optim.optimizer.param_groups])
        optim.step()
        schedule.step()
    assert [pytest.approx(10.0)] * 20 == [head / backbone for backbone, *_, head in rates]
    assert max(rate[0] for rate in rates) == pytest.approx(eta_max or 0.1)


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("pct_start", [0.05, 0.2, 0.3])
def test_one_cycle_is_that_of_torch(anneal: str, pct_start: float) -> None:
    ours = wrapper()
    schedule = OneCycleLR(ours, total_steps=30, pct_start=pct_start, anneal_strategy=anneal)
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 0.1, total_steps=30, pct_start=pct_start, anneal_strategy=anneal, cycle_momentum=False
    )
    for step in range(30):
        assert ours.optimizer.param_groups[0]["lr"] == pytest.approx(
            theirs.param_groups[0]["lr"], rel=1e-9
        ), step
        ours.step()
        schedule.step()
        if step < 29:
            theirs.step()
            reference.step()


def test_one_cycle_resumes_at_its_position() -> None:
    first, second = wrapper(PARAMWISE), wrapper(PARAMWISE)
    schedule, resumed = (OneCycleLR(optim, total_steps=20) for optim in (first, second))
    for _ in range(7):
        first.step()
        schedule.step()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    for _ in range(5):
        for optim, one in ((first, schedule), (second, resumed)):
            optim.step()
            one.step()
        assert [g["lr"] for g in first.param_groups] == [g["lr"] for g in second.param_groups]


def test_mistake_06_a_schedule_by_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="by_epoch must be False"):
        OneCycleLR(wrapper(), total_steps=10, by_epoch=True)
    with pytest.raises(ValueError, match="OneCycleLR over 0 iterations"):
        OneCycleLR(wrapper())


def test_mixed_precision_is_refused_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a CUDA device: bf16 on a CPU is 20-40 times slower"):
        AmpOptimWrapper(torch.optim.SGD(ToyModel().parameters(), lr=0.1))


@pytest.mark.parametrize(("emulated", "dtype"), [(True, torch.float16), (False, torch.bfloat16)])
def test_bfloat16_that_is_only_emulated_is_not_chosen(
    monkeypatch, emulated: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or not emulated
    )
    optim = AmpOptimWrapper(torch.optim.SGD(ToyModel().parameters(), lr=0.1))
    assert optim.cast_dtype == dtype
    assert optim.loss_scaler.is_enabled() == (dtype == torch.float16)


@pytest.mark.parametrize(("steps", "pct_start"), [(1, 0.3), (5, 0.2), (10, 0.1), (10, 1.0), (10, 0.0)])
def test_one_cycle_goes_over_any_length_and_past_its_end(steps: int, pct_start: float) -> None:
    optim = wrapper()
    schedule = OneCycleLR(optim, total_steps=steps, pct_start=pct_start)
    rates = []
    for _ in range(steps + 3):
        rates.append(optim.optimizer.param_groups[0]["lr"])
        optim.step()
        schedule.step()
    assert max(rates[:steps]) > 0.08
    assert all(0 < rate <= 0.1 for rate in rates)


@pytest.mark.parametrize("name", ["scaler", "loss_scaler"])
def test_the_scale_of_gradients_is_read_also_under_its_old_name(monkeypatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    saved, read = (
        AmpOptimWrapper(torch.optim.SGD(ToyModel().parameters(), lr=0.1), dtype="float16") for _ in range(2)
    )
    saved.loss_scaler.load_state_dict({**saved.loss_scaler.state_dict(), "scale": 2.0})
    state = saved.state_dict()
    state[name] = state.pop("loss_scaler")
    load_moments(read, state, keep_rates=True)
    assert read.loss_scaler.state_dict()["scale"] == 2.0
