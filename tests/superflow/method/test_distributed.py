"""Two gloo processes against one process with the joint batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F

from superflow.method.distributed import gather_rows, rank, world_mean, world_size, world_sum
from superflow.method.launch import leave

ROWS = {0: 3, 1: 5}  # rows differ between ranks


def joint_rows() -> torch.Tensor:
    return torch.randn(sum(ROWS.values()), 4, generator=torch.Generator().manual_seed(0)).double()


def contrast(network: torch.nn.Module, rows: torch.Tensor, *, gather: bool = True) -> torch.Tensor:
    """InfoNCE of a linear layer's rows against their squares, over the rows of all ranks."""
    anchors, targets = network(rows), network(rows).square()
    columns, start = gather_rows(targets) if gather else (targets, 0)
    own = torch.arange(len(rows)) + start
    total = world_sum(torch.tensor(float(len(rows)))) if gather else torch.tensor(float(len(rows)))
    loss = F.cross_entropy(anchors @ columns.T, own, reduction="sum") + 0.0 * columns.sum()
    return loss * (world_size() if gather else 1) / total


def make_network() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(4, 6).double()


def worker(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=process, world_size=2)
    start = sum(ROWS[r] for r in range(process))
    own = joint_rows()[start : start + ROWS[process]]

    network = torch.nn.parallel.DistributedDataParallel(make_network())
    loss = contrast(network, own)
    loss.backward()
    gathered, position = gather_rows(torch.arange(ROWS[process]) + 10 * process)

    # a rank without rows must neither hang nor change what the other one gets
    empty = torch.nn.parallel.DistributedDataParallel(make_network())
    contrast(empty, own if process == 0 else own[:0]).backward()

    local = torch.nn.parallel.DistributedDataParallel(make_network())
    contrast(local, own, gather=False).backward()
    torch.save(
        {
            "loss": loss.detach(),
            "grad": network.module.weight.grad,
            "empty": empty.module.weight.grad,
            "local": local.module.weight.grad,
            "gathered": gathered,
            "position": position,
            "sum": world_sum(torch.tensor([1.0, float(process)])),
            "mean": world_mean(torch.tensor([1.0, float(process)])),
        },
        Path(folder) / f"{process}.pt",
    )
    # tensors enough for the threads of gloo to be at letting them go still when the process ends
    many = dist.group.WORLD.allreduce_coalesced([torch.ones(1) for _ in range(20000)])
    many.wait()
    del many
    dist.barrier()  # none is taken down while the other one still talks to it
    leave()


def joint(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    network = make_network()
    loss = contrast(network, rows)
    loss.backward()
    return loss.detach(), network.weight.grad


def test_mistake_44_two_ranks_gathered_equal_the_joint_batch(tmp_path: Path) -> None:
    commands = [[sys.executable, __file__, str(process), str(tmp_path)] for process in (0, 1)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{process}.pt") for process in (0, 1))

    loss, grad = joint(joint_rows())
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, loss)
    torch.testing.assert_close(first["grad"], grad)
    torch.testing.assert_close(second["grad"], grad)
    assert not torch.allclose(first["local"], grad, rtol=1e-3)  # what contrast over local rows would give

    torch.testing.assert_close(first["empty"], joint(joint_rows()[: ROWS[0]])[1])

    assert first["gathered"].tolist() == second["gathered"].tolist() == [0, 1, 2, 10, 11, 12, 13, 14]
    assert (first["position"], second["position"]) == (0, 3)
    assert first["sum"].tolist() == second["sum"].tolist() == [2.0, 1.0]
    assert first["mean"].tolist() == second["mean"].tolist() == [1.0, 0.5]


def test_a_single_process_gets_its_own_rows() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    gathered, start = gather_rows(rows)
    assert gathered is rows
    assert (start, rank(), world_size()) == (0, 0, 1)
    assert world_sum(rows).tolist() == rows.tolist()
    assert not world_sum(rows).requires_grad
    assert world_mean(rows).tolist() == rows.tolist()
    assert not world_mean(rows).requires_grad


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
