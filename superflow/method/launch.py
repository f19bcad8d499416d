"""One process or many: what started them, and their group, on CPU (gloo) and CUDA (nccl)."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from ..errors import InputError, first_line
from ..together import end_at_sigterm
from .distributed import gather_values

# starter -> the variables that number the processes which it starts, and count them
_STARTERS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    # also in a batch script, which is one process whatever the count
    "Slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "MPI": ("PMI_RANK", "PMI_SIZE"),
}
_LAUNCHERS = {"torchrun": "pytorch", "srun": "slurm"}
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCHERS = ("none", *_LAUNCHERS.values())  # of the engine
_joined = False  # this process was in a group once


def start_distributed(
    launcher: str, *, backend: str | None = None, timeout: float = 1800.0, port: int | None = None
) -> None:
    """Create the process group that ``launcher`` describes, unless there is one.

    Args:
        launcher: ``pytorch`` for torchrun, ``slurm`` for srun with one task a device.
        backend: None takes nccl for CUDA tensors and gloo for those on the CPU, where evaluation counts; so does
            ``nccl``, which has nothing for the CPU.
        timeout: seconds after which a collective gives up.
        port: of rank 0 under Slurm, unless MASTER_PORT says another; None goes by the number of the job.

    Raises:
        InputError: the launcher is unknown, its environment is not there, the others cannot be reached, or two
            processes have the same GPU.
    """
    if launcher not in LAUNCHERS:
        raise InputError(f"launcher {launcher!r} is unknown; use one of {', '.join(LAUNCHERS)}")
    if launcher == "none" or dist.is_initialized():
        return
    if launcher == "slurm":
        os.environ.update(slurm_environment(os.environ, port=port))
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise InputError(
            f"launcher {launcher!r} needs {', '.join(missing)} in the environment; "
            "start with: torchrun --nproc_per_node=N -m superflow.tools.train CONFIG"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    backend = "cpu:gloo,cuda:nccl" if backend == "nccl" else backend
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    # a port in use, a host that is not there, numbers that are none
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise InputError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot join the others at {place} "
            f"({first_line(error)}); give all of them a MASTER_PORT that nobody uses (torchrun: --master-port) and the "
            "address of the first machine"
        ) from error
    # who started the processes ends by it those that wait, in a collective, for one that failed
    end_at_sigterm()
    global _joined
    _joined = True
    if "nccl" in backend:
        _refuse_shared_gpus()


def _refuse_shared_gpus() -> None:
    """NCCL would refuse them at the first step, in words of its own.

    Raises:
        InputError: two processes have the same GPU.
    """
    # by what the driver calls it: Slurm may number the one GPU of each process 0
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    own = None if uuid is None else (socket.gethostname(), str(uuid))
    places = gather_values(own)
    if own is not None and (count := places.count(own)) > 1:
        raise InputError(
            f"{count} processes on {own[0]} have the same GPU; start as many on a machine as it has GPUs, here "
            f"{torch.cuda.device_count()} (torchrun: --nproc_per_node, srun: --ntasks-per-node)"
        )


def stop_distributed() -> None:
    """Take the process group down, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def joined() -> bool:
    """Whether `start_distributed` made this process one of a group, be it parted by now or not."""
    return _joined


def leave(code: int = 0) -> NoReturn:
    """Part from the other processes and end this one, one of several, with ``code``.

    It ends without Python's own taking down: threads of gloo may outlive their group and let go of their last tensors
    during it, and then a run that is all done ends with SIGABRT (pytorch/pytorch#190489).
    """
    stop_distributed()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def slurm_environment(given: Any, *, port: int | None) -> dict[str, str]:
    """torchrun's variables from those of a Slurm step.

    Raises:
        InputError: this is no Slurm step, or the names of its hosts cannot be had.
    """
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODELIST"):
        if name not in given:
            raise InputError(f"launcher 'slurm' found no {name}; start with srun, one task a device")
    # a step may have some of the job's hosts, and rank 0 is on the first of its own
    hosts = given.get("SLURM_STEP_NODELIST") or given["SLURM_NODELIST"]
    return {
        "RANK": given["SLURM_PROCID"],
        "WORLD_SIZE": given["SLURM_NTASKS"],
        "LOCAL_RANK": given["SLURM_LOCALID"],
        "MASTER_ADDR": given.get("MASTER_ADDR") or _first_host(hosts),
        "MASTER_PORT": given.get("MASTER_PORT") or str(port or _port_of(given)),
    }


def _first_host(hosts: str) -> str:
    if not set("[,") & set(hosts):
        return hosts
    try:  # several hosts, whose names only Slurm can read
        listed = ["scontrol", "show", "hostnames", hosts]
        return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:  # as in a container without Slurm
        raise InputError(
            f"launcher 'slurm' cannot read the hosts {hosts} by scontrol ({first_line(error)}); set MASTER_ADDR to the "
            "name of the first one"
        ) from error


def _port_of(given: Any) -> int:
    """By job and step: processes of two jobs that share a machine must not meet."""
    numbers = [given.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    own = sum(int(number) for number in numbers if number.isdecimal())
    # below what systems lend to any program
    return 10_000 + own % 20_000 if numbers[0].isdecimal() else 29500


def started_by(environment: Mapping[str, str]) -> tuple[str, int]:
    """What started this process, and how many with it; ("", 1) for a process alone."""
    for starter, (number, count) in _STARTERS.items():
        if number in environment and environment.get(count, "").isdecimal() and int(environment[count]) > 1:
            return starter, int(environment[count])
    return "", 1


def launcher_of(environment: Mapping[str, str]) -> str | None:
    """The launcher that joins this process with those that were started with it; None where it is alone.

    Raises:
        InputError: it is one of several, and whether they can train together is not known.
    """
    starter, count = started_by(environment)
    if count > 1 and starter not in _LAUNCHERS:
        raise InputError(
            f"this is one of {count} processes by {starter}, and all of them would train into one folder; "
            "start them with torchrun or srun, or give --launcher none if it trains alone"
        )
    return _LAUNCHERS.get(starter)


def refuse_several(environment: Mapping[str, str]) -> None:
    """For work that starts its own processes.

    Raises:
        InputError: this is one of several that were started for the same.
    """
    starter, count = started_by(environment)
    if starter in ("torchrun", "srun", "mpirun"):
        raise InputError(
            f"this is one of {count} processes by {starter}, and each of them would do the same into one folder; "
            "start it once, with --jobs"
        )
