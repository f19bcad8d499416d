"""From messages with scans to the tensors of the model: exactly as many placeholders as each scan has tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, ProcessorMixin

from ...errors import InputError, suggest
from .tokenizer import LIDAR, LIDAR_END, LIDAR_START

PARTS = ("points", "planes", "lidar_to_ego", "cameras")  # of a scan that is more than an array


class LidarProcessor(ProcessorMixin):
    """Tokenizer and scans in one call, as Hugging Face's trainers know it; they call a scan an image.

    A scan is planes (C + 1, rows, columns), points (N, 4+) x, y, z [m], intensity [0, 1], the same with the frame that
    they are in as ``{"points": ..., "lidar_to_ego": (4, 4)}``, or a name that ``scans`` knows: so a data set of
    questions holds names, and trainers never touch arrays. ``scans`` is not saved.

    A model that takes images, too, has them beside the scan: ``{"planes": ..., "cameras": (cameras, C, h, w)}``, or
    "points" instead of "planes"; see `camera.camera_maps`.

    Where ``route`` is set (`vir.route_with`), it says of the planes of each scan which tiles keep their full tokens,
    and ``planes`` makes them of points; the rows then have ``tiles_kept`` (S, tiles). Neither is saved.
    """

    def __init__(
        self,
        tokenizer: Any,
        tokens_per_scan: int = 64,
        chat_template: str | None = None,
        tokens_per_tile: Sequence[int] | None = None,
        camera_tokens: int = 0,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        self.tokens_per_scan = tokens_per_scan
        self.tokens_per_tile = None if tokens_per_tile is None else [int(count) for count in tokens_per_tile]
        self.camera_tokens = camera_tokens  # among tokens_per_scan
        self.scans: Mapping[str, Any] = {}
        self.route: Callable[[Tensor], Tensor] | None = None
        self.planes: Callable[[Tensor, Any], Tensor] | None = None
        self.lidar_token_id: int = tokenizer.convert_tokens_to_ids(LIDAR)
        if tokenizer.convert_ids_to_tokens(self.lidar_token_id) != LIDAR:
            raise InputError(f"the tokenizer has no {LIDAR}; give it one with add_lidar_tokens")

    def __call__(
        self,
        images: Sequence[Any] | None = None,
        text: str | Sequence[str] | None = None,
        *,
        return_tensors: str | None = None,
        return_text_replacement_offsets: bool = False,
        **kwargs: Any,
    ) -> BatchFeature:
        """``input_ids``, ``attention_mask``, and ``pixel_values`` or ``points`` (with ``lidar_to_ego``) of the scans.

        Args:
            images: scans of each row, as a list of lists; or all in the order of their placeholders.
            text: rows, each with one ``<LIDAR_CONTEXT>`` where a scan goes, as the chat form writes it.
            kwargs: of the tokenizer.

        Raises:
            InputError: a row names more or fewer scans than it is given, is cut within a scan, or a scan is none.
        """
        if text is None:
            raise InputError("there is no text; give at least a question")
        rows = [text] if isinstance(text, str) else list(text)
        scans = self._by_row(images, rows)
        tensors = self.tensors(scans)
        counts = self._token_counts(scans, tensors)
        written = [self._write(row, own) for row, own in zip(rows, counts)]
        encoded = dict(self.tokenizer([row for row, _ in written], **kwargs))
        encoded.pop("token_type_ids", None)
        self._check_rows(encoded["input_ids"], counts)
        if return_text_replacement_offsets:
            encoded["text_replacement_offsets"] = [offsets for _, offsets in written]
        return BatchFeature(
            {**encoded, **tensors},
            tensor_type=return_tensors,
            skip_tensor_conversion=["text_replacement_offsets"],
        )

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As of every processor; parts are ``{"type": "text", "text": ...}``, ``{"type": "lidar", "lidar": scan}``."""
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        chats = [[_as_image(turn) for turn in chat] for chat in (conversation if batched else [conversation])]
        return super().apply_chat_template(chats if batched else chats[0], *args, **kwargs)

    def tensors(self, scans: Sequence[Sequence[Any]]) -> dict[str, Tensor]:
        """``pixel_values`` or ``points`` of the scans of each row, and where not every row has one, ``lidar_rows``.

        Where they are routed, they come as planes, with ``tiles_kept``.
        """
        given = [self._named(scan) for row in scans for scan in row]
        each = [self._find(scan) for scan in given]
        if self.route is not None:
            each = [(self._planes_of(*scan), None) for scan in each]
        found = self._stacked(each)
        if self.route is not None and each:
            found["tiles_kept"] = torch.stack([self.route(planes) for planes, _ in each])
        if self.camera_tokens and each:
            found["camera_maps"] = torch.stack([_camera_maps(scan) for scan in given])
        if found and any(len(row) != 1 for row in scans):
            found["lidar_rows"] = torch.repeat_interleave(torch.tensor([len(row) for row in scans]))
        return found

    @property
    def model_input_names(self) -> list[str]:
        return [
            "input_ids",
            "attention_mask",
            "pixel_values",
            "points",
            "lidar_to_ego",
            "lidar_rows",
            "tiles_kept",
            "camera_maps",
        ]

    def _planes_of(self, values: Tensor, lidar_to_ego: Any) -> Tensor:
        if values.ndim == 3:
            return values
        if self.planes is None:
            raise InputError(
                "scans are routed by their planes; give planes, or set the route with vir.route_with"
            )
        return self.planes(values, lidar_to_ego)

    def _token_counts(self, scans: Sequence[Sequence[Any]], tensors: Mapping[str, Tensor]) -> list[list[int]]:
        """Tokens of each scan of each row."""
        if "tiles_kept" not in tensors:
            return [[self.tokens_per_scan] * len(row) for row in scans]
        if self.tokens_per_tile is None:
            raise InputError(
                "this processor does not know the tokens of a tile; build it with short_merge=..."
            )
        full, short = self.tokens_per_tile
        kept = tensors["tiles_kept"].bool()
        counts = iter((kept.sum(1) * full + (~kept).sum(1) * short + self.camera_tokens).tolist())
        return [[next(counts) for _ in row] for row in scans]

    def _by_row(self, images: Sequence[Any] | None, rows: Sequence[str]) -> list[list[Any]]:
        named = [row.count(LIDAR) for row in rows]
        given = [] if images is None else list(images)
        if given and all(isinstance(scan, (list, tuple)) for scan in given):
            by_row = [list(row) for row in given]
        else:
            ends = np.cumsum(named).tolist()
            by_row = [given[end - count : end] for end, count in zip(ends, named)]
            if len(given) > sum(named):
                by_row[-1] = by_row[-1] + given[sum(named) :]
        if len(by_row) != len(rows):
            raise InputError(f"there are scans for {len(by_row)} rows and text for {len(rows)}; give as many")
        for i, (count, row) in enumerate(zip(named, by_row)):
            if count != len(row):
                raise InputError(
                    f"row {i} names {count} scans and is given {len(row)}; the text names one with {LIDAR}"
                )
        return by_row

    @staticmethod
    def _write(row: str, counts: Sequence[int]) -> tuple[str, list[dict[str, Any]]]:
        """The row with the placeholders of its scans, and where it grew, as trainers ask for it."""
        offsets, parts, grown, after = [], [], 0, 0
        for match, count in zip(re.finditer(re.escape(LIDAR), row), counts, strict=True):
            block = LIDAR_START + LIDAR * count + LIDAR_END
            parts += [row[after : match.start()], block]
            after = match.end()
            start = match.start() + grown
            offsets.append({"type": "image", "span": match.span(), "new_span": (start, start + len(block))})
            grown += len(block) - len(LIDAR)
        return "".join([*parts, row[after:]]), offsets

    def _check_rows(self, input_ids: Any, counts: Sequence[Sequence[int]]) -> None:
        for i, (row, own) in enumerate(zip(input_ids, counts)):
            found = int((np.asarray(row) == self.lidar_token_id).sum())
            if found != sum(own):
                tokens = f"{own[0]} tokens each" if len(set(own)) == 1 else f"{sum(own)} tokens"
                raise InputError(
                    f"row {i} keeps {found} places for {len(own)} scans of {tokens}; "
                    "it was cut: raise max_length, or leave truncation out"
                )

    def _named(self, scan: Any) -> Any:
        """What a name stands for."""
        if not isinstance(scan, str):
            return scan
        if scan not in self.scans:
            raise InputError(f"the scan {scan!r} is not among the {len(self.scans)} that processor.scans has")
        return self.scans[scan]

    @staticmethod
    def _find(scan: Any) -> tuple[Tensor, Any]:
        """Planes or points, and the frame of the points or None."""
        parts = scan if isinstance(scan, Mapping) else {}
        if unknown := [name for name in parts if name not in PARTS]:
            raise InputError(f"a scan has no {unknown[0]!r}{suggest(unknown[0], PARTS)}")
        if {"planes", "points"} <= set(parts):
            raise InputError("a scan comes as planes or as points; give one of them")
        if "planes" in parts:
            scan = parts["planes"]
        elif parts:
            scan = parts.get("points")
        values = torch.as_tensor(scan).float()
        if values.ndim not in (2, 3) or ("points" in parts and values.ndim == 3):
            raise InputError(
                f"a scan is {tuple(values.shape)}; give points (N, 4+) or planes (C + 1, rows, columns)"
            )
        return values, parts.get("lidar_to_ego")

    @staticmethod
    def _stacked(scans: Sequence[tuple[Tensor, Any]]) -> dict[str, Tensor]:
        values, frames = [scan for scan, _ in scans], [to_ego for _, to_ego in scans]
        dimensions = {v.ndim for v in values}
        if len(dimensions) > 1:
            raise InputError("a batch has scans as planes and as points; give all in one form")
        if dimensions == {3}:
            if len({v.shape for v in values}) > 1:
                raise InputError(
                    "the scans of a batch come from different grids; make all with the model's own grid"
                )
            return {"pixel_values": torch.stack(values)}
        if not scans:
            return {}
        points = pad_sequence(values, batch_first=True, padding_value=float("nan"))
        if all(to_ego is None for to_ego in frames):
            return {"points": points}
        whole = [np.eye(4) if to_ego is None else np.asarray(to_ego) for to_ego in frames]
        return {"points": points, "lidar_to_ego": torch.as_tensor(np.stack(whole))}


def _camera_maps(scan: Any) -> Tensor:
    if not isinstance(scan, Mapping) or "cameras" not in scan:
        raise InputError('this model takes images beside a scan; give {"points": ..., "cameras": ...}')
    return torch.as_tensor(scan["cameras"]).float()


def _as_image(turn: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(turn.get("content"), str) or not turn.get("content"):
        return dict(turn)
    parts = [
        {"type": "image", "image": part["lidar"]} if part.get("type") == "lidar" and "lidar" in part else part
        for part in turn["content"]
    ]
    return {**turn, "content": parts}
