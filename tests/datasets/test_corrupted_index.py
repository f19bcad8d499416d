"""A log that is corrupted while it is read: like the clean one but for what the model says, and the same everywhere."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from superflow.datasets.corruptions.corrupted_index import CorruptedIndex, in_variant
from superflow.datasets.corruptions.domain import Domain
from superflow.datasets.corruptions.models import Variant, corrupt
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of real scans, with labels."""
    out = tmp_path_factory.mktemp("index")
    prepare("semantickitti", shared_data / "fragments/semantickitti", out)
    return out


@pytest.fixture(scope="module")
def clean(folder: Path) -> LogIndex:
    return LogIndex.open(folder)


@pytest.mark.parametrize("variant", ["fog/moderate", "beam_missing/heavy", "wet_ground/heavy/corrected"])
def test_a_scan_is_what_the_model_makes_of_it(clean, folder, variant):
    before = clean.frame(0)
    assert before.labels is not None
    want = corrupt(
        before.cloud,
        before.labels,
        Variant.parse(variant),
        Domain.of(clean.card, is_published=not variant.endswith("corrected")),
        token=before.token,
    )
    index = CorruptedIndex(folder, variant)
    for reader in (index, pickle.loads(pickle.dumps(index))):
        frame = reader.frame(0)
        np.testing.assert_array_equal(frame.cloud.table, want.cloud.table)
        np.testing.assert_array_equal(frame.labels, want.labels(before.labels))
        assert (frame.variant, reader.variant, frame.token) == (variant, variant, before.token)
        assert frame.cloud.rows_of_file == len(before.cloud)
    assert index.frame(0, labels=False).labels is None
    np.testing.assert_array_equal(index.frame(0, labels=False).cloud.table, want.cloud.table)
    raw = index.frame(0, raw_intensity=True).cloud
    np.testing.assert_allclose(raw.intensity, 255 * want.cloud.intensity, rtol=1e-6)
    assert (index.hash, index.card.hash, len(index)) == (clean.hash, clean.card.hash, len(clean))


def test_only_the_rows_that_are_named_are_corrupted(small_index):
    clean = small_index
    index = pickle.loads(pickle.dumps(CorruptedIndex(clean.folder, "motion_blur/light", rows=[1])))
    np.testing.assert_array_equal(index.frame(0).cloud.table, clean.frame(0).cloud.table)
    assert (index.frame(1).cloud.table != clean.frame(1).cloud.table).any()


def test_what_cannot_be_is_said(clean, folder, tmp_path):
    assert in_variant(clean, "clean") is clean
    with pytest.raises(InputError, match="there is no corruption 'rain'"):
        in_variant(clean, "rain/light")
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (copied / path.name).write_bytes(path.read_bytes())
    header = copied / "index.json"
    header.write_text(header.read_text().replace('"variant": "clean"', '"variant": "fog/light"'))
    with pytest.raises(InputError, match="holds the corrupted copy fog/light; corrupt the clean log instead"):
        CorruptedIndex(copied, "snow/light")
