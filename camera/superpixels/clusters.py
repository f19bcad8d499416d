"""Regions by what a teacher sees: one codebook for a whole log, so that an id means the same in every image.

Patch features are reduced, scaled to length 1 and clustered (k-means). In an image each cell gets soft scores of
all clusters; the scores are enlarged bilinearly and averaged inside fine SLIC segments, and a segment takes the
cluster of the highest score. Borders therefore follow the image, not the coarse grid.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy.sparse import coo_array

from ...datasets.frame import Camera
from ...errors import InputError
from ...files.writes import write_bytes
from ..cache import FeatureCache
from ..crops import resize_ids, resize_image
from ..identity import of_other_images
from ..images import camera_image
from ..reduction import Reduction, ReductionFit, read_tensors
from ..teacher import Teacher, make_teacher
from .ids import as_ids, connected_components, merge_small
from .kmeans import kmeans
from .provider import Provider
from .slic import Slic

CODEBOOK = "codebook.safetensors"


class Clusters(Provider):
    """Provider of feature clusters with ids shared by all cameras and frames of a log.

    Args:
        clusters: size of the codebook.
        teacher, teacher_path: as for ``make_teacher``; unused with ``features``.
        features: folder of a feature cache over the same images; saves running the teacher.
        size: height, width the teacher sees; brought to what it allows.
        dims: directions of the features kept before clustering; a cache keeps its own.
        segments, compactness: of the SLIC segments inside which scores are averaged.
        temperature: of the soft scores, against cosine similarities; small is a majority vote.
        components: number connected areas anew in each image instead of giving cluster ids (not shared then).
        fit_images: images for the codebook, evenly spaced over those given to ``fit``.
        fit_tokens: only these images may make the codebook; None is all.
        seed: of the k-means start and of the choice of cells.
    """

    def __init__(
        self,
        *,
        clusters: int = 96,
        teacher: str = "auto",
        teacher_path: str | Path | None = None,
        features: str | Path | None = None,
        size: tuple[int, int] = (448, 832),
        dims: int = 64,
        segments: int = 300,
        compactness: float = 10.0,
        temperature: float = 0.1,
        components: bool = False,
        fit_images: int = 48,
        fit_tokens: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if clusters < 1 or dims < 1 or fit_images < 1 or temperature <= 0:
            raise ValueError("clusters, dims and fit_images must be at least 1, temperature above 0")
        self._options: dict[str, Any] = {
            "clusters": clusters,
            "teacher": teacher,
            "teacher_path": None if teacher_path is None else str(teacher_path),
            "features": None if features is None else str(features),
            "size": list(size),
            "dims": dims,
            "segments": segments,
            "compactness": compactness,
            "temperature": temperature,
            "components": components,
            "fit_images": fit_images,
            "fit_tokens": None
            if fit_tokens is None
            else hashlib.sha256("\n".join(fit_tokens).encode()).hexdigest(),
            "seed": seed,
        }
        self.shared_ids = not components
        self._fit_tokens = None if fit_tokens is None else frozenset(fit_tokens)
        self._slic = Slic(segments=segments, compactness=compactness)
        self._cache = None if features is None else FeatureCache.open(features)
        self._teacher: Teacher | None = None
        self._centres: NDArray[np.float32] | None = None  # (K, D), length 1
        self._reduction: Reduction | None = None

    def options(self) -> dict[str, Any]:
        """All options with their values."""
        return dict(self._options)

    def places(self) -> frozenset[str]:
        """Weights and features: ``made_by`` has the teacher and the codebook that came of them."""
        return frozenset({"teacher_path", "features"})

    def made_by(self) -> dict[str, Any]:
        """The teacher's record and the codebook's hash; and which features of a cache the codebook is of."""
        codebook = {"codebook_sha256": hashlib.sha256(_fitted(self._centres).tobytes()).hexdigest()}
        if self._cache is None:
            return {**codebook, "teacher": self._running_teacher().record()}
        record = self._cache.record
        features = {"size": record["key"]["size"], "reduction_sha256": record["reduction_sha256"]}
        return {**codebook, "features": features, "teacher": record["key"]["teacher"]}

    def fit(self, cameras: Sequence[Camera], folder: Path | None = None) -> Clusters:
        """The provider with a codebook of these images; one that lies in ``folder`` is taken as it is.

        Raises:
            InputError: an image was replaced since its features were made; none may make the codebook.
        """
        if self._cache and (others := of_other_images(cameras, self._cache.identities().get)):
            raise InputError(
                f"{self._cache.folder}: its features of {others[0]} are of another image ({len(others)} such images); "
                "run `superflow prepare features` again, which makes those anew"
            )
        ready = copy(self)
        file = None if folder is None else Path(folder) / CODEBOOK
        if file is not None and os.path.lexists(file):
            stored = read_tensors(file, ("centres",))
            ready._centres = stored["centres"].numpy()
            if "basis" in stored:
                ready._reduction = Reduction(stored["mean"], stored["basis"], float(stored["kept_variance"]))
            return ready
        ready._learn(cameras)
        if file is not None:
            ready._save(file)
        return ready

    def __call__(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(H, W) uint16 cluster ids of ``image``, or numbers of connected areas; raises what ``compact`` does."""
        return resize_ids(self.compact(image, token), image.shape[:2])

    def compact(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(h, w) uint16: the same at the size of the segments.

        Raises:
            InputError: ``fit`` has not run; the feature cache lacks the image.
        """
        centres = _fitted(self._centres)
        features = _unit(self._features(image, token))  # (D, h, w)
        cosine = np.tensordot(centres, features, axes=1)
        scores = np.exp((cosine - cosine.max(axis=0)) / self._options["temperature"])
        segments = self._slic.regions(image)
        cluster = segment_scores(segments, scores / scores.sum(axis=0)).argmax(axis=1)
        regions = cluster[segments]
        if self._options["components"]:
            regions = connected_components(merge_small(regions, max(regions.size // 2000, 1)))[0]
        return as_ids(regions, "clusters")

    def _learn(self, cameras: Sequence[Camera]) -> None:
        """Reduction and centres from evenly spaced images, at most 4096 random cells of each."""
        candidates = [c for c in cameras if self._fit_tokens is None or c.token in self._fit_tokens]
        if not candidates:
            raise InputError("clusters: none of the images may make the codebook; check fit_tokens")
        generator = np.random.default_rng(self._options["seed"])
        spaced = np.linspace(0, len(candidates) - 1, min(self._options["fit_images"], len(candidates)))
        kept, sums = [], None
        for place in spaced:
            camera = candidates[round(place)]
            raw = self._raw_features(camera_image(camera) if self._cache is None else None, camera.token)
            if self._cache is None:
                sums = sums or ReductionFit(raw.shape[0])
                sums.add(torch.from_numpy(raw)[None])
            cells = raw.reshape(len(raw), -1)
            chosen = np.sort(generator.permutation(cells.shape[1])[:4096])
            kept.append(cells[:, chosen].astype(np.float16))
        rows = np.concatenate(kept, axis=1).astype(np.float32)
        if sums is not None:
            teacher = self._running_teacher()
            self._reduction = sums.finish(
                teacher.scale_channels, min(self._options["dims"], teacher.channels)
            )
            rows = self._reduction(torch.from_numpy(rows)[None, :, :, None])[0, :, :, 0].numpy()
        centres = kmeans(np.ascontiguousarray(_unit(rows).T), self._options["clusters"], generator)
        self._centres = np.ascontiguousarray(_unit(centres.T).T)

    def _features(self, image: NDArray[np.uint8], token: str) -> NDArray[np.float32]:
        """(D, h, w) reduced features."""
        raw = self._raw_features(image, token)
        if self._reduction is None:
            return raw
        return self._reduction(torch.from_numpy(raw)[None])[0].numpy()

    def _raw_features(self, image: NDArray[np.uint8] | None, token: str) -> NDArray[np.float32]:
        """(C, h, w): what the cache holds, which is reduced already, or what the teacher sees."""
        if self._cache is not None:
            return self._cache.read(token).astype(np.float32)
        assert image is not None  # only a cache does without
        teacher = self._running_teacher()
        resized = resize_image(image, teacher.fit_size(self._options["size"]))
        return teacher(torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255)[0].contiguous().numpy()

    def _running_teacher(self) -> Teacher:
        if self._teacher is None:  # each process loads its own, once
            self._teacher = make_teacher(self._options["teacher"], path=self._options["teacher_path"])
        return self._teacher

    def _save(self, file: Path) -> None:
        tensors = {"centres": torch.from_numpy(_fitted(self._centres))}
        if (r := self._reduction) is not None:
            tensors |= {"mean": r.mean, "basis": r.basis, "kept_variance": torch.tensor(r.kept_variance)}
        write_bytes(file, save(tensors, metadata={"options": json.dumps(self._options)}))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_teacher": None}


def _fitted(centres: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if centres is None:
        raise InputError("clusters: no codebook yet; call fit on the images of the log first")
    return centres


def segment_scores(segments: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, K) mean over each segment's pixels of ``scores`` (K, h, w) enlarged bilinearly to its size.

    ``segments`` is (H, W) int64 with ids 0..S-1, all present. A cell's value stands at its centre. The enlarged
    scores are never made: their mean is a fixed weighted sum of the cells.
    """
    height, width = scores.shape[1:]
    rows, row_weight = _taps(segments.shape[0], height)
    columns, column_weight = _taps(segments.shape[1], width)
    cell = rows[:, None, :, None] * width + columns[None, :, None, :]  # (H, W, 2, 2)
    weight = row_weight[:, None, :, None] * column_weight[None, :, None, :]
    segment = np.broadcast_to(segments[:, :, None, None], cell.shape)
    count = np.bincount(segments.ravel())
    mixing = coo_array(
        (weight.ravel(), (segment.ravel(), cell.ravel())),
        shape=(len(count), height * width),
        dtype=np.float32,
    ).tocsr()
    return (mixing @ scores.reshape(len(scores), -1).T) / count[:, None]


def _taps(new: int, old: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(new, 2) the two old places next to each new one, and their weights."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(position.astype(np.int64), max(old - 2, 0))
    share = position - low
    return np.stack([low, np.minimum(low + 1, old - 1)], 1), np.stack([1 - share, share], 1).astype(
        np.float32
    )


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """``features`` (D, ...) with every column at length 1; a zero column stays zero."""
    return np.divide(features, np.maximum(np.linalg.norm(features, axis=0), 1e-8))
