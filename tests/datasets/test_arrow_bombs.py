"""Small Arrow files that claim to be huge, or that unpack to it: refused before memory is taken for them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from peak_memory import PeakMemory
from pyarrow import feather, ipc, parquet

from superflow.datasets.formats.arrow_sizes import unpacked
from superflow.datasets.formats.arrow_tables import (
    BYTES,
    NUMBER,
    NUMBERS,
    TEXT,
    read_feather_table,
    read_parquet_table,
    stored_columns,
)
from superflow.datasets.formats.readers import read_points
from superflow.errors import InputError

ROWS = 1 << 24  # of zeros: 64 MiB
LITTLE = 16 << 20  # bytes that a refusal may take


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a bomb begins at 4 MiB, so that those of the tests are made quickly."""
    monkeypatch.setattr("superflow.datasets.formats.read.LARGEST", 1 << 22)


def plain_size(path: Path) -> tuple[int, int]:
    """Rows and bytes of all buffers, after everything was unpacked."""
    rows = size = 0
    with ipc.open_file(str(path)) as reader:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            rows += batch.num_rows
            size += sum(buffer.size for column in batch.columns for buffer in column.buffers() if buffer)
    return rows, size


@pytest.mark.parametrize("packing", ["uncompressed", "lz4", "zstd"])
def test_sizes_are_those_that_come_out(packing, tmp_path):
    rng = np.random.default_rng(1)
    columns = {
        "x": rng.integers(0, 3, 3000).astype("f4"),
        "word": pa.array([f"word {i % 7}" for i in range(3000)]),
        "list": pa.array([[1.0] * (i % 5) for i in range(3000)]),
        "hole": pa.array([None if i % 9 else i for i in range(3000)]),
    }
    feather.write_feather(pa.table(columns), tmp_path / "a.feather", compression=packing, chunksize=1000)
    assert unpacked(tmp_path / "a.feather") == plain_size(tmp_path / "a.feather")
    coded = pa.table({"word": columns["word"].dictionary_encode()})
    feather.write_feather(coded, tmp_path / "b.feather", compression=packing)
    rows, size = unpacked(tmp_path / "b.feather")
    (chunk,) = coded["word"].chunks
    words = sum(buffer.size for buffer in chunk.dictionary.buffers() if buffer)
    assert (rows, size) == (3000, words + 4 * 3000)
    empty = pa.table({"x": pa.array([], pa.float32())})
    feather.write_feather(empty, tmp_path / "c.feather", compression=packing)
    assert unpacked(tmp_path / "c.feather").rows == 0


@pytest.mark.parametrize("packing", ["lz4", "zstd"])
def test_a_feather_file_of_zeros_is_not_unpacked(packing, tmp_path):
    path = tmp_path / "a.feather"
    zeros = pa.array(np.zeros(ROWS, "f4"))
    feather.write_feather(pa.table({"x": zeros[:3], "y": zeros[:3]}), path, compression=packing)
    assert read_feather_table(path, {"x": NUMBER}).num_rows == 3
    feather.write_feather(pa.table({"x": zeros}), path, compression=packing, chunksize=ROWS)
    stored = path.stat().st_size
    assert stored < ROWS / 40
    del zeros
    with PeakMemory() as memory:
        said = rf"a.feather: claims to unpack from {stored} to {4 * ROWS} bytes, more than any scan"
        with pytest.raises(InputError, match=said):
            read_feather_table(path, {"x": NUMBER})
        with pytest.raises(InputError, match=said):
            read_points(path, ("x", "x", "x"), format="feather")
    assert memory.grown < LITTLE


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (1 << 33, "claims 8589934592 points, more than a scan"),
        (1 << 20, r"is no whole feather file \(.*too small.*\)"),
        (-1, "is no whole feather file"),
    ],
)
def test_rows_that_a_feather_file_has_not_are_not_read(claim, said, tmp_path):
    """pyarrow gives arrays of as many rows as the head claims, and whoever reads them ends the process."""
    path = tmp_path / "a.feather"
    feather.write_feather(pa.table({"x": np.zeros(5, "f4")}), path, compression="uncompressed")
    data = bytearray(path.read_bytes())
    places = [at for at in range(0, len(data) - 8, 8) if struct.unpack_from("<q", data, at) == (5,)]
    assert len(places) == 2, "the rows of the batch and of its column"
    for at in places:
        struct.pack_into("<q", data, at, claim)
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_feather_table(path, {"x": NUMBER})


def test_text_that_leads_out_of_its_bytes_is_not_read(tmp_path):
    path = tmp_path / "a.feather"
    feather.write_feather(pa.table({"word": ["car", "bus"]}), path, compression="uncompressed")
    data = path.read_bytes()
    assert data.count(struct.pack("<3i", 0, 3, 6)) == 1
    path.write_bytes(data.replace(struct.pack("<3i", 0, 3, 6), struct.pack("<3i", 0, 3, 1 << 30)))
    with pytest.raises(InputError, match="is no whole feather file"):
        read_feather_table(path, {"word": TEXT})


def test_a_parquet_file_of_one_endless_list_is_not_unpacked(tmp_path):
    path = tmp_path / "a.parquet"
    zeros = pa.array(np.zeros(ROWS, "f4"))
    lists = pa.ListArray.from_arrays([0, ROWS], zeros)
    parquet.write_table(pa.table({"[A].values": lists, "key": [1]}), path, compression="zstd")
    assert path.stat().st_size < ROWS / 100
    del zeros, lists
    with PeakMemory() as memory:
        for at in (None, {"key": 1}):
            with pytest.raises(InputError, match=r"a.parquet: claims to unpack from .* more than any scan"):
                read_parquet_table(path, {"[A].values": NUMBERS}, at)
        assert read_parquet_table(path, {"key": NUMBER}).num_rows == 1
        assert stored_columns(path) == (("[A].values", "key"), 1)
    assert memory.grown < LITTLE


def test_bytes_that_a_parquet_file_names_in_many_rows_are_one_thing(tmp_path):
    path = tmp_path / "a.parquet"
    image = bytes(range(256)) * 64
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, "i4")), [image])
    parquet.write_table(pa.table({"[A].image": column, "key": np.arange(20_000)}), path)
    with PeakMemory() as memory:
        table = read_parquet_table(path, {"[A].image": BYTES}, {"key": 7})
        assert table["[A].image"].to_pylist() == [image]
    assert memory.grown < LITTLE


def test_rows_at_a_value_are_those_of_a_plain_read(tmp_path):
    """Row groups are chosen by their statistics, with and without them, and filtered."""
    rng = np.random.default_rng(2)
    columns = {
        "key": rng.integers(0, 9, 400),
        "side": rng.integers(0, 3, 400).astype("i1"),
        "x": rng.normal(size=400),
    }
    whole = pa.table({**columns, "list": [[float(i)] * (i % 3) for i in range(400)]}).sort_by("key")
    for with_statistics in (True, False):
        path = tmp_path / f"{with_statistics}.parquet"
        parquet.write_table(whole, path, row_group_size=50, write_statistics=with_statistics)
        for at in ({"key": 4}, {"key": 4, "side": 2}, {"key": 77}, {}):
            found = read_parquet_table(path, {"x": NUMBER, "list": NUMBERS}, at)
            want = [row for row in whole.to_pylist() if all(row[name] == value for name, value in at.items())]
            assert found.to_pylist() == [{"x": row["x"], "list": row["list"]} for row in want]
