"""Whether weights have seen the drives on which they are to be measured, maybe under another dataset's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError, first_few


def seen_recordings(card: Mapping[str, Any]) -> dict[str, list[str]]:
    """Dataset -> its recordings that an encoder was trained on, or one that it began or is averaged with.

    Also those that gave it its batch-norm statistics: of scans that are judged these would flatter it as well.

    Args:
        card: of an `encoder_file.EncoderFile`. Files of earlier versions do not say it.
    """
    seen: dict[str, set[str]] = {}
    method = card.get("method") or {}
    befores = [method.get("pretrained") or {}, method.get("averaged") or {}]
    while befores[-1].get("averaged"):  # an average of an average
        befores.append(befores[-1]["averaged"])
    for before in befores:
        for name, recordings in (before.get("recordings") or {}).items():
            seen.setdefault(name, set()).update(recordings)
    statistics = (card.get("training") or {}).get("batch_norm") or {}
    trained = (card.get("data") or {}).get("train") or {}
    for part in (*_parts(trained), *_parts(statistics.get("recalibrated_on") or {})):
        if part.get("recordings"):
            seen.setdefault(str(part.get("dataset")), set()).update(part["recordings"])
    return {name: sorted(recordings) for name, recordings in sorted(seen.items())}


def evaluated_record(index: Any, rows: Any) -> dict[str, Any]:
    """What ``check_leakage`` must know of the scans ``rows`` (R,) of an index: those measured on, or learned from."""
    return {"dataset": index.card.name, "recordings": index.recordings(rows)}


def check_encoder(file: Any, index: Any, *, train: Any, evaluate: Any, allowed: bool) -> list[str]:
    """``check_leakage`` of an encoder's file that is measured on scans of an index.

    Which scans of one dataset are learned from and which are judged on is whoever measures' own choice.

    Args:
        file: an `encoder_file.EncoderFile`. train, evaluate: rows (R,) that its head learns from and is judged on.
    """
    data = {"train": evaluated_record(index, train), "test": evaluated_record(index, evaluate)}
    return check_leakage(str(file.path), seen_recordings(file.card), data, allowed=allowed)


def check_run(
    record: Mapping[str, Any], began: Mapping[str, Any] | None, source: str, *, allowed: bool
) -> list[str]:
    """``check_leakage`` of a run.

    Args:
        record: of its model, and under ``data`` of all that it learns from and is measured on.
        began: record of the checkpoint whose weights it began with, called ``source``: what that was trained on has
            been seen; where nothing is trained here, it was trained with this config.
    """
    pretrained, data = record.get("pretrained"), dict(record["data"])
    before: Mapping[str, Any] = pretrained if isinstance(pretrained, Mapping) else {}
    if began is not None and "train" in data:
        return check_leakage(source, seen_recordings({"method": began, **began}), data, allowed=allowed)
    if began is not None:
        data["train"] = began.get("data", {}).get("train", {})
    return check_leakage(str(before.get("file")), before.get("recordings") or {}, data, allowed=allowed)


def check_leakage(
    source: str,
    pretrained: Mapping[str, Sequence[str]],
    data: Mapping[str, Mapping[str, Any]],
    *,
    allowed: bool = False,
) -> list[str]:
    """Recordings of evaluated frames that training has seen; sorted.

    Which frames of one dataset a run learns from and which it is measured on is its config's choice, also within one
    drive; what weights have seen before, and what is learned from another dataset, must be of other drives.

    Args:
        source: where the weights are from, for the message. pretrained: see ``seen_recordings``.
        data: record of each dataset of the run by its stage: what ``train`` learns from, the others measure.
        allowed: it is the user's wish, and will stand in the result.

    Raises:
        InputError: there are some, and they are not allowed.
    """
    own: dict[str, set[str]] = {}
    for part in _parts(data.get("train", {})):
        own.setdefault(str(part.get("dataset")), set()).update(part.get("recordings") or ())
    shared: dict[str, set[str]] = {}
    for held in (part for stage in sorted(data.keys() - {"train"}) for part in _parts(data[stage])):
        dataset, recordings = str(held.get("dataset")), set(held.get("recordings") or ())
        for name, seen in pretrained.items():
            chosen = own.get(dataset, set()) if name == dataset else set()
            shared.setdefault(source, set()).update((recordings - chosen) & set(seen))
        for name in own.keys() - {dataset}:
            shared.setdefault(f"train_dataloader.dataset ({name})", set()).update(recordings & own[name])
    found = sorted(set().union(*shared.values()))
    if found and not allowed:
        where = next(where for where, names in shared.items() if names)
        raise InputError(
            f"{where}: was trained on drives that are evaluated here ({first_few(found)}), so figures would "
            "be too good; train without these scenes, evaluate on others, or give --allow-leakage (the result says it)"
        )
    return found


def _parts(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The record of a dataset, or those of the logs that it is mixed from."""
    parts = record.get("parts")
    if parts is None:
        yield record
        return
    for part in parts:
        yield from _parts(part)
