"""Whether this process is one of several, by the variables that torchrun, Slurm and MPI set."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InputError

# starter -> the variables that number the processes which it starts, and count them
_STARTERS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    "Slurm": (
        "SLURM_PROCID",
        "SLURM_NTASKS",
    ),  # also in a batch script, which is one process whatever the count
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "MPI": ("PMI_RANK", "PMI_SIZE"),
}
_LAUNCHERS = {"torchrun": "pytorch", "srun": "slurm"}  # of the engine


def started_by(environment: Mapping[str, str]) -> tuple[str, int]:
    """What started this process, and how many with it; ("", 1) for a process alone."""
    for starter, (number, count) in _STARTERS.items():
        if number in environment and environment.get(count, "").isdecimal() and int(environment[count]) > 1:
            return starter, int(environment[count])
    return "", 1


def launcher_options(environment: Mapping[str, str]) -> dict[str, str]:
    """``{"launcher": NAME}`` where this process is one of several; empty where it is alone.

    Raises:
        InputError: it is one of several, and whether they can train together is not known.
    """
    starter, count = started_by(environment)
    if count == 1:
        return {}
    if starter not in _LAUNCHERS:
        raise InputError(
            f"this is one of {count} processes by {starter}, and all of them would train into one folder; "
            "start them with torchrun or srun, or give --launcher none if it trains alone"
        )
    return {"launcher": _LAUNCHERS[starter]}


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
