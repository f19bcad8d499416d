"""What ``make-drive --vary`` draws anew for each scene. Groups are independent: each draws from its own generator."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import InputError

GROUPS = ("sensor", "place", "appearance")


def check_groups(groups: Collection[str]) -> tuple[str, ...]:
    """The groups in their order, each once.

    Raises:
        InputError: one is not known.
    """
    for name in groups:
        if name not in GROUPS:
            raise InputError(f"vary {name!r} is no group of variation; choose among {', '.join(GROUPS)}")
    return tuple(name for name in GROUPS if name in groups)
