"""Data loaders of a config: endless seeded draws for training, every item once for evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..clips.batch import collate
from ..clips.sampler import DrawBatches, EveryItem
from ..errors import InputError
from ..method.distributed import rank, world_size
from ..together import begin_loader_worker
from .registry import DATASETS, as_plain


def build_loader(config: Any, *, seed: int, purpose: str) -> DataLoader:
    """Loader of ``dict(batch_size=1, num_workers=0, dataset=dict(type=...), ...)``; one that is built stays.

    Args:
        config: further keys are those of torch's ``DataLoader``.
        seed: of the order and of everything random in the items.
        purpose: for training draw (item, seed) pairs; for any other see every item once, in order.

    Raises:
        InputError: the dataset cannot be built, is of no use, or has fewer items to evaluate than there are processes.
    """
    if isinstance(config, DataLoader):
        return config
    options = {"batch_size": 1, "num_workers": 0, **config}
    dataset, batch_size = build_dataset(options.pop("dataset")), options.pop("batch_size")
    # what can be of no use says so before the first step, not after the last one
    if hasattr(dataset, "require_labelled_points"):
        dataset.require_labelled_points(purpose)
    items, place = len(dataset), {"rank": rank(), "world_size": world_size()}  # type: ignore[arg-type]
    options.setdefault("persistent_workers", options["num_workers"] > 0)
    options.setdefault("pin_memory", torch.cuda.is_available())  # a copy to the GPU then waits for nothing
    with named(f"{purpose} loader"):
        if purpose == "training":
            options["batch_sampler"] = DrawBatches(items, batch_size=batch_size, seed=seed, stop=1, **place)
        elif items < world_size():
            raise InputError(
                f"{items} items to evaluate in {world_size()} process(es); give at least one for each"
            )
        else:
            options |= {"batch_size": batch_size, "sampler": EveryItem(items, **place)}
        return _Loader(dataset, collate_fn=collate, worker_init_fn=begin_loader_worker, **options)


class _Loader(DataLoader):
    """torch's loader, but bad input met by a worker says the sentence alone, with the traceback as its cause."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except InputError as error:
            # a worker's error is its whole traceback, whose last line begins with the exception's name
            name = rf"^[\w.]*{type(error).__name__}: "
            sentence = re.split(name, str(error), flags=re.MULTILINE)[-1].strip()
            if sentence == str(error):
                raise
            raise type(error)(sentence) from error


def build_dataset(config: Any) -> Dataset:
    """The dataset of a config's ``dict(type=...)``; one that is built already is returned as it is.

    Raises:
        InputError: it cannot be built.
    """
    if not isinstance(config, Mapping):
        return config
    with named(f"dataset {config['type']}"):
        return DATASETS.build(as_plain(config))


@contextmanager
def named(part: str) -> Iterator[None]:
    """Say of which part of the config a refused value is; errors that say more pass."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{part}: cannot be built ({error}); correct it in the config") from error
