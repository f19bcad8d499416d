"""Files of points in every format, written byte by byte from its description, and a real one against a plain read."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import laspy
import numpy as np
import pyarrow
import pytest
from pyarrow import feather, parquet

from superflow.datasets.formats.pcd import read_header
from superflow.datasets.formats.readers import read_labels, read_points
from superflow.errors import InputError

XYZ = np.random.default_rng(3).uniform(-50, 50, (40, 3)).astype("<f4")
INTENSITY = np.arange(40, dtype="u1") * 6
LABEL = (np.arange(40) % 7).astype("<u2")
HEAD = "# .PCD v0.7\nVERSION 0.7\nFIELDS {}\nSIZE {}\nTYPE {}\nCOUNT {}\nWIDTH 40\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"


def lzf_of_literals(data: bytes) -> bytes:
    """LZF as its description has it: runs of up to 32 bytes that are not packed at all."""
    runs = (data[i : i + 32] for i in range(0, len(data), 32))
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def pcd_head(data: str, *, padding: tuple[int, ...] = ()) -> bytes:
    """Of x, y, z, padding fields of these counts, intensity and label, with the lines as drivers order them."""
    pads = [("_", 1, "U", count) for count in padding]
    fields = [
        *(("xyz"[i], 4, "F", 1) for i in range(3)),
        *pads,
        ("intensity", 1, "U", 1),
        ("label", 2, "U", 1),
    ]
    columns = [" ".join(map(str, column)) for column in zip(*fields)]
    return (HEAD.format(*columns) + f"POINTS 40\nDATA {data}\n").encode()


def rows_with(padding: int) -> bytes:
    """The rows of a binary file, with so many bytes between z and intensity."""
    return b"".join(
        XYZ[i].tobytes() + b"\xee" * padding + INTENSITY[i].tobytes() + LABEL[i].tobytes() for i in range(40)
    )


def pcd_binary() -> bytes:
    return pcd_head("binary", padding=(4, 0, 12)) + rows_with(16) + b"bytes behind the last point"


def pcd_ascii() -> bytes:
    lines = (f"{x!r}\t{y!r} {z!r}  {INTENSITY[i]} {LABEL[i]}" for i, (x, y, z) in enumerate(XYZ.tolist()))
    return pcd_head("ascii") + "\r\n".join(lines).encode() + b"\n"


def pcd_compressed() -> bytes:
    columns = XYZ.T.tobytes() + b"\xee" * 40 * 4 + INTENSITY.tobytes() + LABEL.tobytes()
    packed = lzf_of_literals(columns)
    return (
        pcd_head("binary_compressed", padding=(4, 0)) + struct.pack("<II", len(packed), len(columns)) + packed
    )


def ply(order: str) -> bytes:
    """With an element before the vertices and faces, which have lists, behind them."""
    head = (
        f"ply\nformat {order} 1.0\ncomment made\nelement camera 1\nproperty int16 id\nelement vertex 40\n"
        + "".join(
            f"property {kind} {name}\n"
            for kind, name in (
                *(("float", "x"), ("float32", "y"), ("float", "z")),
                *(("uchar", "intensity"), ("ushort", "label")),
            )
        )
    )
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    if order == "ascii":
        lines = [f"{x!r} {y!r} {z!r} {INTENSITY[i]} {LABEL[i]}" for i, (x, y, z) in enumerate(XYZ.tolist())]
        return (head + "7\n" + "\n".join(lines) + "\n3 0 1 2\n").encode()
    sign = ">" if "big" in order else "<"
    rows = b"".join(struct.pack(f"{sign}fffBH", *XYZ[i], INTENSITY[i], LABEL[i]) for i in range(40))
    return head.encode() + struct.pack(f"{sign}h", 7) + rows + struct.pack(f"{sign}Biii", 3, 0, 1, 2)


def las() -> bytes:
    """Version 1.2, points of format 0: coordinates are 1000 + 0.001 n."""
    head = bytearray(227)
    head[:4], head[24:26] = b"LASF", bytes([1, 2])
    struct.pack_into("<HII", head, 94, 227, 227, 0)
    struct.pack_into("<BHI5I", head, 104, 0, 20, 40, 40, 0, 0, 0, 0)
    struct.pack_into("<6d", head, 131, 0.001, 0.001, 0.001, 1000, 1000, 1000)
    whole = np.round(XYZ.astype(float) * 1000).astype("<i4")
    rows = b"".join(
        struct.pack("<iiiHBBbBH", *whole[i], INTENSITY[i], 0b00001001, LABEL[i], 0, 0, 0) for i in range(40)
    )
    return bytes(head) + rows


def npz(names: dict[str, np.ndarray]) -> bytes:
    """A zip archive, by hand: deflated members and their directory."""
    body, directory = b"", b""
    for name, array in names.items():
        text = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape}, }}"
        text = text.ljust((-(10 + len(text) + 1)) % 64 + len(text)) + "\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + array.tobytes()
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(data) + packer.flush()
        file = f"{name}.npy".encode()
        about = struct.pack(
            "<HHHHHIIIHH", 20, 0, 8, 0, 33, zlib.crc32(data), len(packed), len(data), len(file), 0
        )
        directory += b"PK\x01\x02\x14\x00" + about + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + file
        body += b"PK\x03\x04" + about + file + packed
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(names), len(names), len(directory), len(body), 0)
    return body + directory + end


def columns() -> dict[str, np.ndarray]:
    return {
        **{axis: XYZ[:, i].copy() for i, axis in enumerate("xyz")},
        "intensity": INTENSITY,
        "label": LABEL,
    }


def table() -> np.ndarray:
    return np.column_stack([XYZ, INTENSITY, LABEL]).astype("<f4")


FILES = {
    "binary.pcd": pcd_binary,
    "ascii.pcd": pcd_ascii,
    "compressed.pcd": pcd_compressed,
    "ascii.ply": lambda: ply("ascii"),
    "little.ply": lambda: ply("binary_little_endian"),
    "big.ply": lambda: ply("binary_big_endian"),
    "columns.npz": lambda: npz(columns()),
}


@pytest.mark.parametrize("name", FILES)
def test_points_and_labels_are_those_that_were_written(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    kind = path.suffix[1:]
    read = read_points(path, ("x", "y", "z", "strength"), format=kind, stored={"strength": "intensity"})
    for i, axis in enumerate("xyz"):
        np.testing.assert_array_equal(read.columns[axis], XYZ[:, i])
    np.testing.assert_array_equal(read.columns["strength"], INTENSITY)
    np.testing.assert_array_equal(read_labels(path, 40, format=kind), LABEL)


def test_a_table_in_an_archive_has_the_columns_in_their_order(tmp_path):
    path = tmp_path / "table.npz"
    path.write_bytes(npz({"data": table()}))
    read = read_points(path, ("x", "y", "z", "intensity", "label"), format="npz").columns
    np.testing.assert_array_equal(np.stack(list(read.values()), axis=1), table())
    with pytest.raises(
        InputError, match=r"table.npz: holds an array of shape \(40, 5\) where its card says 4"
    ):
        read_points(path, ("x", "y", "z", "i"), format="npz")


def test_a_table_in_an_archive_is_found_beside_what_is_none(tmp_path):
    path = tmp_path / "scan.npz"
    path.write_bytes(npz({"labels": LABEL, "points": table()[:, :4], "stamp": np.array([1.5])}))
    read = read_points(path, ("x", "y", "z", "intensity"), format="npz").columns
    np.testing.assert_array_equal(np.stack(list(read.values()), axis=1), table()[:, :4])
    np.testing.assert_array_equal(read_labels(path, 40, format="npz", column="labels"), LABEL)
    path.write_bytes(npz({**dict(zip("xy", XYZ.T.copy())), "normals": XYZ}))
    with pytest.raises(InputError, match=r"scan.npz: has no column z, but x, y, normals"):
        read_points(path, ("x", "y", "z"), format="npz")
    path.write_bytes(npz({"points": XYZ, "normals": XYZ}))
    with pytest.raises(InputError, match=r"scan.npz: has no column x, y, z, but points, normals"):
        read_points(path, ("x", "y", "z"), format="npz")


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_labels_among_floats_are_whole_numbers(dtype, tmp_path):
    """As in tables of one type, and in what editors of clouds write."""
    rows = np.column_stack([XYZ, LABEL])
    rows[5, 3], rows[6, 3] = -1, np.nan
    path = tmp_path / "scan.npy"
    np.save(path, rows.astype(dtype))
    asked = {"format": "npy", "column": "class", "columns": ("x", "y", "z", "class")}
    read = read_labels(path, 40, mask=0xFFFF, **asked)
    np.testing.assert_array_equal(read, np.where(np.isin(np.arange(40), (5, 6)), 65535, LABEL))
    for value in (0.5, np.inf, 2.0**24 + 2 if dtype == "<f4" else 2.0**53):
        rows[7, 3] = value
        np.save(path, rows.astype(dtype))
        with pytest.raises(InputError, match=r"scan.npy: holds |scan.npy: holds the label"):
            read_labels(path, 40, **asked)


@pytest.mark.parametrize("ending", ["feather", "parquet"])
def test_columns_of_arrow_files(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    arrow = pyarrow.table({**columns(), "x": XYZ[:, 0].astype(np.float16)})
    feather.write_feather(arrow, path) if ending == "feather" else parquet.write_table(arrow, path)
    read = read_points(path, ("x", "y", "z", "intensity"), format=ending).columns
    np.testing.assert_array_equal(read["x"], XYZ[:, 0].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(read["y"], XYZ[:, 1])
    with pytest.raises(InputError, match=rf"a.{ending}: has no column ring, but x, y, z, intensity, label"):
        read_points(path, ("x", "y", "z", "ring"), format=ending)


@pytest.mark.parametrize("packed", [False, True])
def test_las_and_laz(packed, tmp_path):
    path = tmp_path / "a.las"
    path.write_bytes(las())
    if packed:
        laspy.read(path).write(tmp_path / "a.laz")
        path = tmp_path / "a.laz"
    read = read_points(path, ("x", "y", "z", "intensity"), format="las").columns
    np.testing.assert_allclose(np.stack([read[axis] for axis in "xyz"], axis=1), XYZ + 1000.0, atol=6e-4)
    np.testing.assert_array_equal(read["intensity"], INTENSITY)
    np.testing.assert_array_equal(read_labels(path, 40, format="las", column="classification"), LABEL)


def test_a_real_pcd_of_mixed_field_sizes_is_that_of_a_plain_read(shared_data: Path):
    path = shared_data / "fragments/vehicle_drivers/vlp16_1673400472138016708.pcd"
    data = path.read_bytes()
    # x y z intensity return_type channel azimuth elevation distance time_stamp
    row = np.dtype("<f4,<f4,<f4,u1,u1,<u2,<f4,<f4,<f4,<u4")
    want = np.frombuffer(data, row, 14831, data.index(b"DATA binary\n") + len(b"DATA binary\n"))
    names = ("x", "y", "z", "intensity", "channel", "distance", "time_stamp")
    read = read_points(path, names, format="pcd")
    assert read.rows == 14831
    for name, place in zip(names, (0, 1, 2, 3, 5, 8, 9)):
        np.testing.assert_array_equal(read.columns[name], want[f"f{place}"])
    ranges = np.linalg.norm([read.columns[axis] for axis in "xyz"], axis=0)
    np.testing.assert_allclose(ranges, read.columns["distance"], atol=1e-3)  # the sensor's own
    assert {field.size for field in read_header(path, data).fields} == {1, 2, 4}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "binary.pcd",
            lambda d: d[:-60],
            r"holds 1207 bytes of points where its header claims 40 points of 1240",
        ),
        (
            "binary.pcd",
            lambda d: d.replace(b"POINTS 40", b"POINTS 9" + b"0" * 15),
            r"WIDTH and HEIGHT of other",
        ),
        (
            "binary.pcd",
            lambda d: d.replace(b"WIDTH 40", b"WIDTH 1" + b"0" * 12).replace(
                b"POINTS 40", b"POINTS 1" + b"0" * 12
            ),
            r"claims 1000000000000 points, more than a scan of",
        ),
        (
            "binary.pcd",
            lambda d: d.replace(b"DATA binary", b"DATA zipped"),
            r"are written as 'zipped'; export it",
        ),
        (
            "binary.pcd",
            lambda d: d.replace(b"TYPE F F", b"TYPE F Q"),
            r"the field 'y' of its header is Q of 4 bytes",
        ),
        (
            "binary.pcd",
            lambda d: d.replace(b"SIZE 4 4 4", b"SIZE 4 4"),
            r"has 8 FIELDS, 7 SIZE, 8 TYPE and 8 COUNT",
        ),
        ("binary.pcd", lambda d: b"x" * 300, r"is no PCD file"),
        ("ascii.pcd", lambda d: d.replace(b"FIELDS x", b"FIELDS w"), r"has no column x, but w, y, z"),
        (
            "ascii.pcd",
            lambda d: d.replace(b" intensity", b" x"),
            r"its header names the field x twice; rename",
        ),
        ("ascii.pcd", lambda d: d[: len(d) // 2], r"its points cannot be read"),
        ("compressed.pcd", lambda d: d[:-9], r"is cut off"),
        (
            "compressed.pcd",
            lambda d: d.replace(b"DATA binary_compressed\n", b"DATA binary_compressed\n\x05\0\0\0"),
            r"unpacks to \d+ bytes out of 5",
        ),
        ("little.ply", lambda d: d[:400], r"is 400 bytes long and its header claims 40 vertices of 15"),
        ("ascii.ply", lambda d: d[:600], r"does not hold 40 lines of 5 numbers"),
        ("big.ply", lambda d: d.replace(b"element vertex", b"element points"), r"has no element vertex"),
        ("big.ply", lambda d: d.replace(b"int16 id", b"list int8 int8 id"), r"have lists, stand behind some"),
        ("big.ply", lambda d: d.replace(b"vertex 40", b"vertex 9" + b"0" * 12), r"more than a scan of"),
        ("columns.npz", lambda d: d[:300], r"is no NumPy archive of plain numbers"),
    ],
)
def test_wrong_files_are_one_sentence(name, change, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(change(FILES[name]()))
    with pytest.raises(InputError, match=message) as told:
        read_points(path, ("x", "y", "z"), format=path.suffix[1:])
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_pickles_in_an_archive_stay_shut(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{}], object), y=np.zeros(1), z=np.zeros(1))
    with pytest.raises(InputError, match=r"a.npz: is no NumPy archive of plain numbers"):
        read_points(path, ("x", "y", "z"), format="npz")


@pytest.mark.parametrize(
    "name", ["table.npy", "scan.bin.gz", "table.npz", "little.ply", "points.las", "scan.feather"]
)
def test_files_with_a_head_are_no_bare_rows(name, tmp_path):
    """Whose size is no sign: heads of NumPy are 128 bytes long, the others are filled up to whole rows."""
    path = tmp_path / name
    rows = np.zeros((40, 8), "<f4")
    if name == "table.npy":
        np.save(path, rows)
    elif name == "scan.bin.gz":
        path.write_bytes(gzip.compress(rows.tobytes()))
    elif name == "scan.feather":
        feather.write_feather(pyarrow.table({"x": rows[:, 0]}), path)
    else:
        path.write_bytes(
            {"table.npz": lambda: npz({"data": rows}), "points.las": las}.get(name, FILES["little.ply"])()
        )
    data = path.read_bytes()
    path.write_bytes(data + bytes(-len(data) % 32))
    with pytest.raises(
        InputError, match=rf"{name}: is .* and no file of bare float32 rows; convert it, or give it"
    ):
        read_points(path, (*"xyz", *"abcde"), format="f4")


@pytest.mark.parametrize("rows", [1, 39])
def test_columns_of_an_archive_are_as_long_as_each_other(rows, tmp_path):
    """One of a single value was that of every point."""
    path = tmp_path / "a.npz"
    path.write_bytes(npz({**dict(zip("xyz", XYZ.T.copy())), "intensity": INTENSITY[:rows]}))
    with pytest.raises(InputError, match=rf"a.npz: x has 40 values and intensity has {rows}, and a column"):
        read_points(path, ("x", "y", "z", "intensity"), format="npz")


def test_an_archive_is_not_unpacked_beyond_what_a_scan_can_be(tmp_path):
    path = tmp_path / "a.npz"
    data = npz({"data": np.zeros((9, 3), "<f4")})
    size = struct.pack("<I", len(b"\x93NUMPY") + 2 + 2 + 118 + 9 * 12)
    assert data.count(size) == 2, "in the member's head and in the directory"
    path.write_bytes(data.replace(size, struct.pack("<I", 0x7FFFFFFF)))
    with pytest.raises(InputError, match=r"a.npz: claims to unpack from 187 to 2147483647 bytes"):
        read_points(path, ("x", "y", "z"), format="npz")
