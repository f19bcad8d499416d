"""Columns of Arrow files are of the kind that the reader expects, whatever the file holds, or are refused by name."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import test_argoverse2
import test_waymo
from pyarrow import feather, parquet

from superflow.datasets.formats.arrow_tables import (
    BYTES,
    INTEGER,
    NUMBER,
    NUMBERS,
    TEXT,
    read_feather_table,
    read_parquet_table,
)
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

COLUMNS = {
    "whole": pa.array([1, 2], pa.uint16()),
    "half": pa.array(np.array([1, 2], np.float16)),
    "double": pa.array([1.5, 2.5]),
    "words": pa.array(["a", "b"]),
    "coded": pa.array(["a", "a"]).dictionary_encode(),
    "raw": pa.array([b"a", b"b"]),
    "lists": pa.array([[1.5], []]),
    "fixed": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
    "nested": pa.array([["a"], []]),
    "flag": pa.array([True, False]),
}
FITS = {
    INTEGER: {"whole"},
    NUMBER: {"whole", "half", "double"},
    TEXT: {"words", "coded"},
    BYTES: {"raw"},
    NUMBERS: {"lists", "fixed"},
}
READERS: dict[str, Callable] = {"feather": read_feather_table, "parquet": read_parquet_table}
WRITERS: dict[str, Callable] = {"feather": feather.write_feather, "parquet": parquet.write_table}


@pytest.mark.parametrize("form", READERS)
def test_only_what_a_kind_names_is_taken(tmp_path, form):
    path = tmp_path / f"table.{form}"
    stored = {name: column for name, column in COLUMNS.items() if (form, name) != ("parquet", "half")}
    WRITERS[form](pa.table(stored), path)
    for kind, fitting in FITS.items():
        for name, column in stored.items():
            if name in fitting:
                assert READERS[form](path, {name: kind})[name].to_pylist() == column.to_pylist()
            else:
                with pytest.raises(
                    InputError, match=rf"table.{form}: the column {name} holds .* in place of {kind}"
                ):
                    READERS[form](path, {name: kind})


@pytest.mark.parametrize("form", READERS)
def test_lacking_doubled_and_empty_columns_are_named(tmp_path, form):
    path = tmp_path / f"table.{form}"
    WRITERS[form](pa.table({"a": [1, None], "b": pa.array([None, [1.0]])}), path)
    with pytest.raises(InputError, match=rf"table.{form}: has no column c, but a, b"):
        READERS[form](path, {"c": NUMBER})
    with pytest.raises(InputError, match="the column a has 1 empty places"):
        READERS[form](path, {"a": INTEGER})
    assert READERS[form](path, {"b": NUMBERS})["b"].to_pylist() == [None, [1.0]]
    WRITERS[form](pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(InputError, match="has 2 columns a"):
        READERS[form](path, {"a": INTEGER})


def test_rows_are_chosen_by_whole_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"key": [1, 2, 1], "value": [5, 6, 7]}), path)
    assert read_parquet_table(path, {"value": INTEGER}, {"key": 1})["value"].to_pylist() == [5, 7]
    parquet.write_table(pa.table({"key": ["1"], "value": [5]}), path)
    with pytest.raises(InputError, match="the column key holds string in place of whole numbers"):
        read_parquet_table(path, {"value": INTEGER}, {"key": 1})


def swapped(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """The column as something else."""
    for value in ("abc", b"\xff", [1.5], math.nan, 0.0):
        yield pa.array([value] * len(column))
    yield pa.nulls(len(column), column.type)


def read_all(name: str, root: Path, out: Path) -> None:
    """Index a log and read every scan of it."""
    shutil.rmtree(out, ignore_errors=True)
    index = prepare(name, root, out)
    for row in range(len(index)):
        frame = index.frame(row, boxes=True)
        index.instances(row, len(frame.cloud))


def refusals(name: str, root: Path, files: list[Path], out: Path) -> list[str]:
    """What is said of every swapped column of these files that is refused; the others are read."""
    said = []
    for path in files:
        kept = path.read_bytes()
        is_feather = path.suffix == ".feather"
        table = feather.read_table(path) if is_feather else parquet.read_table(path, partitioning=None)
        write = feather.write_feather if is_feather else parquet.write_table
        for place, column in enumerate(table.column_names):
            for other in swapped(table[column]):
                write(table.set_column(place, column, other), path)
                try:
                    read_all(name, root, out)
                except InputError as error:
                    said.append(str(error))
        path.write_bytes(kept)
    read_all(name, root, out)
    assert not [sentence for sentence in said if str(root) not in sentence or "\n" in sentence]
    return said


@pytest.mark.parametrize(
    "component", ["lidar", "lidar_calibration", "lidar_segmentation", "camera_calibration"]
)
def test_no_swapped_column_of_waymo_is_more_than_an_input_error(tmp_path, component):
    root = test_waymo.write(tmp_path / "waymo")
    files = sorted((root / "training" / component).iterdir())
    assert len(refusals("waymo", root, files, tmp_path / "index")) >= 12


def test_no_swapped_column_of_argoverse_2_is_more_than_an_input_error(tmp_path, shared_data):
    root = tmp_path / "av2"
    shutil.copytree(shared_data / "fragments/av2", root, copy_function=shutil.copyfile)
    log = root / "val" / test_argoverse2.LOG
    files = [log / "city_SE3_egovehicle.feather", log / "calibration/egovehicle_SE3_sensor.feather"]
    assert len(refusals("argoverse2", root, files, tmp_path / "index")) >= 30
    assert len(refusals("argoverse2", root, [log / "annotations.feather"], tmp_path / "index")) >= 50
