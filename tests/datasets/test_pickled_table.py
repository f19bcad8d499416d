"""Tables out of pickles: their numbers are read, and nothing of a pickle is run."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pickles
import pytest

from superflow.datasets.formats.pickled_table import read_pickled_table, read_table
from superflow.errors import InputError

RNG = np.random.default_rng(0)
TABLE = {
    "x": RNG.normal(size=7),
    "d": RNG.integers(0, 9, 7),
    "y": RNG.normal(size=7),
    "word": list("abcdefg"),
    "small": RNG.normal(size=7).astype(np.float32),
}
NUMBERS = [name for name in TABLE if name != "word"]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("rows", [range(7), range(3, 17, 2), np.array([5, 1, 9, 2, 40, 0, 7])])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_are_those_that_were_written(tmp_path, rows, order):
    path = written(tmp_path / "t.pkl.gz", pickles.frame(TABLE, rows, order=order))
    columns, found = read_table(path)
    assert list(columns) == NUMBERS
    for name in NUMBERS:
        np.testing.assert_array_equal(columns[name], TABLE[name])
    assert found.tolist() == list(rows)
    one = read_pickled_table(written(tmp_path / "t.pkl", pickles.frame(TABLE, rows)), "", ("small",))
    assert list(one) == ["small"]


def test_big_endian_numbers_are_the_same(tmp_path):
    table = {"x": TABLE["x"].astype(">f8"), "d": TABLE["d"].astype(">i4")}
    columns, _ = read_table(written(tmp_path / "t.pkl", pickles.frame(table, range(7))))
    for name in table:
        np.testing.assert_array_equal(columns[name], TABLE[name])
        assert columns[name].dtype.isnative


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_the_pandas_that_is_there(tmp_path, protocol):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLE, index=[4, 2, 9, 1, 0, 5, 6])
    frame.columns = pandas.Index(list(TABLE), dtype=object)
    for table, names in ((frame.drop(columns="word"), NUMBERS), (frame[["d"]].reset_index(drop=True), ["d"])):
        columns, rows = read_table(written(tmp_path / "t.pkl", pickle.dumps(table, protocol=protocol)))
        assert list(columns) == names
        for name in names:
            np.testing.assert_array_equal(columns[name], TABLE[name])
        assert rows.tolist() == table.index.tolist()


class Caller:
    def __init__(self, function, *given):
        self.made = function, given

    def __reduce__(self):
        return self.made


def test_a_call_is_refused_and_not_made(tmp_path):
    target = tmp_path / "made"
    for number, (function, *given) in enumerate(
        [
            (Path.touch, target),
            (exec, f"open({str(target)!r}, 'w')"),
            (eval, "1"),
            (print, "x"),
            (bytearray, 9**9),
        ]
    ):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(Caller(function, *given), protocol=protocol)
            with pytest.raises(InputError, match="nothing else is taken from a pickle, which could run code"):
                read_table(written(tmp_path / f"{number}.pkl", data))
    hidden = pickles.name("os", "system") + pickles.items(pickles.text(f"touch {target}")) + b"R0"
    with pytest.raises(InputError, match=r"it asks for os\.system"):
        read_table(written(tmp_path / "h.pkl", b"\x80\x03" + hidden + pickles.frame(TABLE, range(7))[2:]))
    for module, what in (("numpy", "load"), ("numpy.core.multiarray", "scalar"), ("pandas", "read_pickle")):
        with pytest.raises(InputError, match=f"it asks for {module}.{what}"):
            read_table(written(tmp_path / "n.pkl", b"\x80\x03" + pickles.name(module, what) + b"."))
    assert not target.exists()


def test_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("superflow.datasets.formats.pickled_table._LARGEST", 1 << 22)
    with pytest.raises(InputError, match="unpacks to more than 4 MiB"):
        read_table(written(tmp_path / "zeros.pkl.gz", bytes(5 << 20)))
    memo = b"\x80\x03Nr\xff\xff\xff\x7f."  # a place numbered 2147483647
    with pytest.raises(InputError, match="it numbers 2147483647 things"):
        read_table(written(tmp_path / "m.pkl", memo))
    far = pickles.frame({"x": TABLE["x"]}, range(1 << 40))
    with pytest.raises(InputError, match="1099511627776 rows"):
        read_table(written(tmp_path / "r.pkl", far))
    deep = b"\x80\x03" + b"(" * 100_000 + b"N" + b"t" * 100_000 + b"."
    with pytest.raises(InputError):
        read_table(written(tmp_path / "d.pkl", deep))


def refusal(path: Path) -> str:
    """Why it is refused; empty where it is read."""
    try:
        read_table(path)
    except InputError as error:
        return str(error)
    return ""


def test_whatever_is_damaged_is_one_clear_sentence(tmp_path):
    whole = pickles.frame(TABLE, np.array([5, 1, 9, 2, 40, 0, 7]))
    rng = np.random.default_rng(1)
    cases = [whole[:length] for length in range(0, len(whole), 9)]
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        cases.append(bytes(data))
    path = tmp_path / "t.pkl"
    said = [sentence for data in cases if (sentence := refusal(written(path, data)))]
    assert len(said) > 0.5 * len(cases)
    assert not [sentence for sentence in said if not sentence.startswith(f"{path}: ") or "\n" in sentence]
    packed = gzip.compress(whole)
    for length in range(0, len(packed), 41):
        (tmp_path / "t.pkl.gz").write_bytes(packed[:length])
        with pytest.raises(InputError, match=r"t\.pkl\.gz: is no"):
            read_table(tmp_path / "t.pkl.gz")


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = written(tmp_path / "t.pkl", pickles.frame(TABLE, range(7)))
    for name in ("z", "word"):
        with pytest.raises(InputError, match=f"has no column {name} of numbers, but x, d, y, small"):
            read_pickled_table(path, "", ("x", name))
    with pytest.raises(InputError, match="has no part '3'"):
        read_pickled_table(path, "3", ("x",))


def doubled(levels: int) -> bytes:
    """A tuple of two of one tuple of two of ...: small, unless somebody goes through it."""
    level = [
        b"h" + bytes([i - 1]) + b"h" + bytes([i - 1]) + b"\x86q" + bytes([i]) + b"0" for i in range(1, levels)
    ]
    return b")q\x000" + b"".join(level)


LAST = b"h\x3b"  # of sixty levels


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"}" + LAST + b"Ns", "a key is neither a word nor a number"),
        (b"}(" + LAST + b"Nu", "a key is neither a word nor a number"),
        (b"(" + LAST + b"Nd", "a key is neither a word nor a number"),
        (b"\x8f(" + LAST + b"\x90", "it asks for a set"),
        (b"(" + LAST + b"\x91", "it asks for a set"),
        (LAST, "it is no DataFrame"),
    ],
)
def test_what_grows_when_it_is_hashed_is_refused(body, said, tmp_path):
    with pytest.raises(InputError, match=said):
        read_table(written(tmp_path / "t.pkl", b"\x80\x04" + doubled(60) + body + b"."))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (LAST, "tuple is no array"),
        (
            pickles.name("numpy.core.multiarray", "_reconstruct") + b")R(K\x01)" + LAST + b"\x89Ntb",
            "it holds tuple",
        ),
        (
            pickles.name("numpy.core.numeric", "_frombuffer")
            + pickles.items(
                pickles.name("_codecs", "encode")
                + pickles.items(pickles.text("x" * 9), pickles.text("idna"))
                + b"R",
                pickles.name("numpy", "dtype") + pickles.items(pickles.text("f8")) + b"R",
                pickles.items(pickles.number(1)),
                pickles.text("C"),
            )
            + b"R",
            "bytes of no text",
        ),
    ],
)
def test_what_grows_when_it_is_shown_or_turned_into_an_array_is_refused(values, said, tmp_path):
    """In the place of the values of a column."""
    whole = pickles.frame({"x": TABLE["x"]}, range(7))
    place = whole.index(pickles.array(TABLE["x"][None]))
    data = whole.replace(pickles.array(TABLE["x"][None]), values)
    assert place > 0
    with pytest.raises(InputError, match=said):
        read_table(written(tmp_path / "t.pkl", b"\x80\x03" + doubled(60) + data[2:]))


def test_a_slice_of_a_million_million_columns_is_refused(tmp_path):
    whole = pickles.frame({"x": TABLE["x"]}, range(7))
    one = pickles.name("builtins", "slice") + pickles.items(*map(pickles.number, (0, 1, 1)))
    assert whole.count(one) == 1
    far = pickles.name("builtins", "slice") + pickles.items(*map(pickles.number, (-(1 << 40), 1, 1)))
    with pytest.raises(InputError, match="a block of 1099511627777 columns"):
        read_table(written(tmp_path / "t.pkl", whole.replace(one, far)))
