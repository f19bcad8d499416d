"""`Backbone.extract` takes points in whatever form they come: the same rows, bit for bit, or the reason why not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.errors import InputError
from superflow.hub.backbone import Backbone, BackboneCard
from superflow.lidar.encoder import LidarEncoder

FIELDS = ("x", "y", "z", "intensity")


def make_backbone(inputs=("intensity", "height", "range", "one"), **card) -> Backbone:
    torch.manual_seed(0)
    encoder = LidarEncoder(
        grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny", "width": 0.25}, inputs=inputs
    )
    return Backbone(encoder, BackboneCard("street", **card))


BACKBONE = make_backbone()


def make_points(count: int = 60, columns: int = 4, seed: int = 0) -> np.ndarray:
    """(N, C) float32 multiples of 1/8, which every type of number here holds without rounding."""
    random = np.random.default_rng(seed)
    points = random.integers(-160, 160, (count, columns)) / 8
    points[:, 2] = random.integers(-16, 16, count) / 8
    points[:, 3] = random.integers(0, 9, count) / 8
    return points.astype(np.float32)


def structured(points, kind="<f4", names=FIELDS, order=(0, 1, 2, 3)):
    array = np.zeros(len(points), dtype=[(names[column], kind) for column in order])
    for column in order:
        array[names[column]] = points[:, column]
    return array


def with_column(points, values):
    return np.column_stack([points, np.resize(np.asarray(values, dtype=np.float32), len(points))])


def read_only(points):
    points = points.copy()
    points.flags.writeable = False
    return points


FORMS = {
    "negative strides": lambda p: np.ascontiguousarray(p[::-1])[::-1],
    "mirrored columns": lambda p: np.ascontiguousarray(p[:, ::-1])[:, ::-1],
    "every second row": lambda p: np.repeat(p, 2, axis=0)[::2],
    "slice of a wide table": lambda p: np.hstack([p, p])[:, :4],
    "big-endian": lambda p: p.astype(">f4"),
    "big-endian double": lambda p: p.astype(">f8"),
    "double": lambda p: p.astype(np.float64),
    "half": lambda p: p.astype(np.float16),
    "long double": lambda p: p.astype(np.longdouble),
    "objects": lambda p: p.astype(object),
    "column-major": np.asfortranarray,
    "turned back": lambda p: np.ascontiguousarray(p.T).T,
    "read-only": read_only,
    "lists": lambda p: p.tolist(),
    "tuples": lambda p: tuple(map(tuple, p.tolist())),
    "matrix": lambda p: p.view(np.matrix),
    "masked array, nothing masked": np.ma.masked_array,
    "structured": structured,
    "structured, big-endian": lambda p: structured(p, ">f8"),
    "structured, other order": lambda p: structured(p, order=(3, 1, 0, 2)),
    "structured, capitals": lambda p: structured(p, names=("X", "Y", "Z", "Intensity")),
    "record array": lambda p: structured(p).view(np.recarray),
    "unused NaN": lambda p: with_column(p, [np.nan, 7.0]),
    "unused infinity": lambda p: with_column(p, [np.inf, -np.inf]),
    "unused text": lambda p: np.column_stack([p.astype(object), np.full(len(p), "car")]),
    "unused masked": lambda p: np.ma.masked_array(
        with_column(p, 1.0), mask=np.arange(5) == np.full((len(p), 1), 4)
    ),
    "tensor": torch.from_numpy,
    "tensor, double": lambda p: torch.from_numpy(p).double(),
    "tensor, half": lambda p: torch.from_numpy(p).half(),
    "tensor, bfloat16": lambda p: torch.from_numpy(p).bfloat16(),
    "tensor with gradient": lambda p: torch.from_numpy(p).requires_grad_(),
    "tensor, computed": lambda p: torch.from_numpy(p).requires_grad_() * 1,
    "tensor, turned": lambda p: torch.from_numpy(p.T.copy()).T,
    "tensor, expanded": lambda p: torch.from_numpy(p)[:, None].expand(-1, 2, -1)[:, 1],
    "tensor, unused NaN": lambda p: torch.from_numpy(with_column(p, np.nan)),
    "parameter": lambda p: torch.nn.Parameter(torch.from_numpy(p)),
}


@pytest.mark.parametrize("count", [60, 1, 0])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_rows_of_the_plain_array(form, count):
    points = make_points(count)
    want = BACKBONE.extract(points)
    assert want.shape == (count, BACKBONE.out_channels)
    assert want.dtype == np.float32
    handed_in = FORMS[form](points.copy())
    got = BACKBONE.extract(handed_in)
    assert isinstance(got, torch.Tensor if isinstance(handed_in, torch.Tensor) else np.ndarray)
    if isinstance(got, torch.Tensor):
        assert not got.requires_grad
        got = got.numpy()
    assert type(got) is np.ndarray
    assert np.array_equal(got, want)


@pytest.mark.parametrize("kind", ["i1", "<i4", ">i4", "i8", "u1", "u2", "?"])
@pytest.mark.parametrize("tensor", [False, True])
def test_whole_numbers(kind, tensor):
    points = make_points().astype(int)
    points = np.abs(points).clip(0, 1) if kind == "?" else np.abs(points) if "u" in kind else points
    want = BACKBONE.extract(points.astype(np.float32))
    array = points.astype(kind)
    handed_in = torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) if tensor else array
    assert np.array_equal(np.asarray(BACKBONE.extract(handed_in)), want)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("where", ["points", "backbone"])
def test_points_and_backbone_may_lie_on_different_devices(where):
    points = torch.from_numpy(make_points())
    want = BACKBONE.extract(points)
    backbone = make_backbone().to("cuda" if where == "backbone" else "cpu")
    handed_in = points.to("cuda" if where == "points" else "cpu")
    got = backbone.extract(handed_in)
    assert got.device == handed_in.device
    torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-5)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(0, 40),
    further=st.integers(0, 3),
    kind=st.sampled_from(["<f4", ">f4", "<f8", ">f8", "f2"]),
    steps=st.tuples(st.sampled_from([-2, -1, 1, 3]), st.sampled_from([-1, 1])),
    order=st.sampled_from("CF"),
)
def test_no_layout_in_memory_changes_a_row(seed, count, further, kind, steps, order):
    """A view with any steps through a table of any type, with NaN wherever nothing is read."""
    points = make_points(count, 4 + further, seed)
    points[:, 4:] = np.nan
    row_step, column_step = steps
    shape = (count * abs(row_step), (4 + further) * abs(column_step))
    table = np.full(shape, np.nan, dtype=kind, order=order)
    view = table[::row_step, ::column_step]
    view[:] = points
    assert np.array_equal(BACKBONE.extract(view), BACKBONE.extract(points[:, :4].copy()))


def spoilt(column, value, row=3):
    def change(points):
        points[row, column] = value
        return points

    return change


BAD = {
    "NaN in x": (
        spoilt(0, np.nan),
        r"^points: column 0 \(x\): NaN, .* in 1 of 60 rows, the first is row 3; rem",
    ),
    "infinite z": (spoilt(2, -np.inf), r"column 2 \(z\): NaN, infinity"),
    "NaN intensity": (spoilt(3, np.nan), r"column 3 \(intensity\): NaN"),
    "beyond float32": (lambda p: spoilt(1, 1e300)(p.astype(float)), r"column 1 \(y\): .*beyond float32"),
    "two columns": (
        lambda p: spoilt(2, np.inf, 5)(spoilt(0, np.nan)(p)),
        r"column 0 \(x\), column 2 \(z\): .* in 2 of 60 rows, the first is row 3",
    ),
    "masked x": (
        lambda p: np.ma.masked_array(p, mask=np.arange(4) == np.full((len(p), 1), 0)),
        r"column 0 \(x\): NaN",
    ),
    "structured NaN": (lambda p: structured(spoilt(1, np.nan)(p)), r"column 1 \(y\): NaN"),
    "no intensity": (lambda p: p[:, :3], r"points has shape \(60, 3\); give \(N, 4\+\): x, y, z, intensity$"),
    "one point": (lambda p: p[0], r"shape \(4,\); give \(N, 4\+\)"),
    "three axes": (lambda p: p[None], r"shape \(1, 60, 4\); give \(N, 4\+\)"),
    "a number": (lambda p: 3.0, r"shape \(\); give \(N, 4\+\)"),
    "nothing": (lambda p: None, r"shape \(\); give \(N, 4\+\)"),
    "unequal rows": (lambda p: [[1, 2, 3, 0], [1, 2]], r"a list that is no table of numbers"),
    "text": (lambda p: p.astype(str), r"column 0 \(x\) is of type <U\d+; give numbers"),
    "complex": (lambda p: p.astype(complex), r"column 0 \(x\) is of type complex128; give numbers"),
    "dates": (lambda p: p.astype("M8[s]"), r"column 0 \(x\) is of type datetime64\[s\]; give numbers"),
    "complex tensor": (
        lambda p: torch.from_numpy(p).cfloat(),
        r"points are a tensor that is torch.complex64; give a dense one of real numbers",
    ),
    "sparse tensor": (
        lambda p: torch.from_numpy(p).to_sparse(),
        "a tensor that is torch.sparse_coo; give a dense",
    ),
    "tensor of none": (lambda p: torch.from_numpy(p).to("meta"), "a tensor that is on the device meta; give"),
    "nested tensor": (
        lambda p: torch.nested.as_nested_tensor([torch.from_numpy(p)], layout=torch.jagged),
        r"a tensor that is (nested|torch.jagged); give a dense one",
    ),
    "objects": (lambda p: spoilt(1, "far")(p.astype(object)), r"column 1 \(y\) is no column of numbers"),
    "none": (lambda p: spoilt(1, None)(p.astype(object)), r"column 1 \(y\)"),
    "fields without intensity": (
        lambda p: structured(p, order=(0, 1, 2)),
        r"structured array of shape \(60,\) with the fields x, y, z; give shape \(N,\) with the fields "
        r"x, y, z, intensity",
    ),
    "organised": (lambda p: structured(p).reshape(6, 10), r"structured array of shape \(6, 10\)"),
    "intensity 0..255": (
        lambda p: p * [1, 1, 1, 200],
        r'intensity runs from 0 to 200, not 0..1; pass intensity="0',
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_named(kind):
    change, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        BACKBONE.extract(change(make_points()))


@pytest.mark.parametrize("columns", [3, 4, 5, 7])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, np.ndarray.tolist, np.asfortranarray])
def test_a_transposed_table_is_named(make, columns):
    table = make(np.ascontiguousarray(make_points(columns=max(columns, 4))[:, :columns].T))
    with pytest.raises(InputError, match=rf"shape \({columns}, 60\) and looks transposed; give points.T"):
        BACKBONE.extract(table)


def test_few_points_on_their_side_are_told_by_their_intensity():
    points = make_points(7)
    with pytest.raises(InputError, match=r"; if these 4 rows are columns, give points.T"):
        BACKBONE.extract(points.T)


def test_only_columns_that_are_read_matter():
    points = make_points(columns=6)
    plain = make_backbone(("height", "range", "one"))  # reads no intensity
    want = plain.extract(points)
    points[:, 3] = np.nan
    assert np.array_equal(plain.extract(points), want)
    ring = make_backbone(("height", "column:5"))
    want = ring.extract(points)
    points[:, 4] = np.inf
    assert np.array_equal(ring.extract(points), want)
    points[2, 5] = np.nan
    with pytest.raises(InputError, match=r"points: column 5: NaN, .* the first is row 2"):
        ring.extract(points)
    with pytest.raises(InputError, match=r"\(60, 5\); give \(N, 6\+\): x, y, z, intensity, column 5"):
        ring.extract(points[:, :5])
    fields = structured(points, names=(*FIELDS, "time", "ring"), order=range(6))
    fields["ring"] = want_ring = np.arange(60)
    points[:, 5] = want_ring
    assert np.array_equal(ring.extract(fields), ring.extract(points))


def test_rows_outside_the_limits_are_zero_and_known():
    near = make_backbone(limits={"range_m": [1.5, 10.0], "height_m": [-1.0, None]})
    points = make_points(200)
    inside = near.within_limits(points)
    distance = np.hypot(points[:, 0], points[:, 1])
    assert np.array_equal(inside, (distance >= 1.5) & (distance <= 10) & (points[:, 2] >= -1))
    assert 0 < inside.sum() < len(points)
    rows = near.extract(points)
    assert not rows[~inside].any()
    assert rows[inside].any(axis=1).all()
    assert np.array_equal(rows[inside], BACKBONE.extract(points[inside]))  # the others are not looked at
    assert np.array_equal(near.extract(points, everywhere=True), BACKBONE.extract(points))
    assert BACKBONE.within_limits(points).all()


@pytest.mark.parametrize(
    "form", ["big-endian", "negative strides", "structured", "lists", "tensor", "unused NaN"]
)
def test_within_limits_takes_the_same_forms(form):
    near = make_backbone(limits={"range_m": [0, 10]})
    points = make_points()
    got = near.within_limits(FORMS[form](points.copy()))
    assert got.dtype == (torch.bool if form == "tensor" else np.bool_)
    assert np.array_equal(np.asarray(got), near.within_limits(points))


def test_points_kilometres_away_are_outside_like_any_other():
    near = make_backbone(limits={"range_m": [0, 60]})
    points = make_points()
    want = near.extract(points)
    points[7, :2] = 1e9
    rows = near.extract(points)
    assert not rows[7].any()
    assert want[7].any()
    with pytest.raises(InputError, match=r"cannot be voxelised"):
        near.extract(points, everywhere=True)


def test_a_scan_in_the_frame_of_a_map_is_told(caplog):
    near = make_backbone(limits={"range_m": [0, 60]})
    points = make_points()
    assert near.extract(points).any()
    assert not near.extract(points[:0]).any()
    assert not caplog.records
    points[:, :2] += 5e5
    assert not near.extract(points).any()
    assert f"none of the {len(points)} points lies within {{'range_m': [0, 60]}}" in caplog.text
    assert "give points in the frame of the LiDAR" in caplog.text


def test_a_backbone_that_knows_of_points_without_intensity_takes_three_columns():
    knowing = make_backbone(("intensity", "has_intensity", "height", "one"))
    points = make_points()
    unknown = points.copy()
    unknown[:, 3] = np.nan
    want = knowing.extract(unknown)
    assert np.isfinite(want).all()
    np.testing.assert_array_equal(knowing.extract(points[:, :3]), want)
    np.testing.assert_array_equal(knowing.extract(torch.from_numpy(points[:, :3])).numpy(), want)
    np.testing.assert_array_equal(knowing.extract(structured(points, order=(2, 0, 1))), want)
    assert not np.allclose(knowing.extract(points), want)
    with pytest.raises(InputError, match=r"column 2 \(z\): NaN"):
        knowing.extract(np.where([False, False, True], np.nan, points[:, :3]))
    with pytest.raises(InputError, match=r"give \(N, 4\+\): x, y, z, intensity"):
        BACKBONE.extract(points[:, :3])
    with pytest.raises(InputError, match=r"column 3 \(intensity\): NaN"):
        BACKBONE.extract(unknown)


class Table:
    """What data frames have in common."""

    def __init__(self, **columns):
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name):
        return self._columns[name]

    def __array__(self, dtype=None, copy=None):
        return np.column_stack(list(self._columns.values())).astype(dtype or np.float64)


def test_the_columns_of_a_data_frame_are_told_by_their_names():
    points = make_points(50)
    x, y, z, intensity = points[:, :4].T
    want = BACKBONE.extract(points[:, :4])
    for table in (
        Table(intensity=intensity, z=z, Y=y, x=x),
        Table(t=x, x=x, y=y, z=z, Intensity=intensity),
        Table(a=x, b=y, c=z, d=intensity, e=x),
        Table(x=x, y=y, z=z, i=intensity, t=x),
    ):
        np.testing.assert_array_equal(BACKBONE.extract(table), want)


def test_intensity_of_0_to_1_that_is_said_to_be_raw_is_told(caplog):
    points = make_points(50)
    points[:, 3] = np.linspace(0, 1, 50)
    BACKBONE.extract(points, intensity="0..255")
    assert "intensity runs from 0 to 1, all but black of 0..255; leave out" in caplog.text
    caplog.clear()
    points[:, 3] = np.arange(50) % 2
    BACKBONE.extract(points, intensity="0..255")
    assert not caplog.text
