"""Waymo 1: files written byte by byte say what version 2 says of the same content, and damaged ones are refused."""

from __future__ import annotations

import pickle
import random
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import test_waymo
import waymo_writer as made
from test_waymo import LABELLED, SEGMENT, TIMES, by_hand, labels

from superflow.datasets.card import load_card
from superflow.datasets.formats.crc32c import crc32c
from superflow.datasets.formats.protobuf_message import Message, WireError
from superflow.datasets.formats.tfrecord import LONGEST_RECORD, masked_crc32c, records
from superflow.datasets.formats.waymo_files import read_waymo, read_waymo_labels
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.datasets.sets.waymo import scans
from superflow.errors import InputError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("waymo1"), times=reversed(TIMES))


@pytest.fixture(scope="module")
def index(path: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    return prepare("waymo", path.parent.parent, tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    """The same content in version 2."""
    root = test_waymo.write(tmp_path_factory.mktemp("waymo2"))
    return prepare("waymo", root, tmp_path_factory.mktemp("index2"))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_points_and_labels_are_those_of_the_twin(index, row):
    want, classes, instances = by_hand(TIMES[row])
    frame = index.frame(row, images=False)
    np.testing.assert_allclose(frame.cloud.xyz, want[:, :3], atol=2e-4)
    np.testing.assert_allclose(frame.cloud.intensity, np.tanh(want[:, 3]), atol=1e-6)
    np.testing.assert_array_equal(frame.cloud.extra["lidar"], want[:, 5])
    assert index.has_labels(row) == (TIMES[row] == LABELLED)
    if index.has_labels(row):
        assert frame.labels.tolist() == [index.card.label_map[i] for i in classes]
        assert index.instances(row, len(classes)).tolist() == instances.tolist()
    else:
        assert frame.labels is None


def test_it_is_all_that_version_2_says(index, other):
    assert index.tokens(range(3)) == other.tokens(range(3))
    for row in range(len(index)):
        one, two = index.frame(row), other.frame(row)
        assert (one.scene, one.time_us) == (two.scene, two.time_us) == (SEGMENT, TIMES[row])
        for name in ("xyz", "intensity", "file_row"):
            np.testing.assert_array_equal(getattr(one.cloud, name), getattr(two.cloud, name))
        assert one.cloud.extra.keys() == two.cloud.extra.keys()
        for name, values in one.cloud.extra.items():
            np.testing.assert_array_equal(values, two.cloud.extra[name])
        np.testing.assert_array_equal(one.ego_to_world, two.ego_to_world)
        np.testing.assert_array_equal(one.origins, two.origins)
        assert (one.labels is None) == (two.labels is None)
        if one.labels is not None:
            np.testing.assert_array_equal(one.labels, two.labels)
        assert [c.channel for c in one.cameras] == [c.channel for c in two.cameras]
        assert len(one.cameras) == 5
        for a, b in zip(one.cameras, two.cameras):
            assert (a.time_us, a.lens.model, a.lens.distortion) == (
                b.time_us,
                b.lens.model,
                b.lens.distortion,
            )
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.lens.intrinsics, b.lens.intrinsics)
            np.testing.assert_array_equal(one.lidar_to_camera(a), two.lidar_to_camera(b))


def test_the_files_framing_is_that_of_another_reader(path):
    stub = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    data = path.read_bytes()
    assert struct.pack("<I", stub.masked_crc32c(data)) == made.masked(data)
    assert masked_crc32c(data) == stub.masked_crc32c(data)
    reader = stub.PyRecordReader_New(str(path))
    for offset, record in records(path):
        reader.GetNext()
        assert record == reader.record(), offset


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 1001])
def test_the_checksum_is_that_of_bit_by_bit(length):
    data = random.Random(length).randbytes(length)
    assert crc32c(data) == made.crc32c(data)


def test_the_checksum_has_the_published_values():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_fields_are_those_of_another_parser():
    """Of the package protobuf, with the same message described to it."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="twin.proto", package="twin", syntax="proto2")
    kind = file.message_type.add(name="Twin")
    types = (
        (1, "INT32", 3),
        (2, "STRING", 1),
        (3, "DOUBLE", 3),
        (4, "INT64", 1),
        (5, "FLOAT", 3),
        (6, "MESSAGE", 3),
    )
    for number, name, label in types:
        field = kind.field.add(name=f"f{number}", number=number, label=label)
        field.type = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name}")
        if name == "MESSAGE":
            field.type_name = ".twin.Twin"
        if number == 5:
            field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    twin = message_factory.GetMessageClass(pool.FindMessageTypeByName("twin.Twin"))
    rng = random.Random(0)
    for _ in range(50):
        whole = [
            rng.choice((0, 1, -1, 127, 128, 2**31 - 1, -(2**31), rng.randrange(99999))) for _ in range(9)
        ]
        text, big = rng.choice(("", "é車", "x" * 200)), rng.choice((0, -1, 2**63 - 1, -(2**63)))
        reals = [rng.uniform(-1e9, 1e9) for _ in range(rng.randrange(4))]
        data = twin(f1=whole, f2=text, f3=reals, f4=big, f5=reals, f6=[twin(f4=i) for i in range(3)])
        message = Message(data.SerializeToString())
        assert message.integers(1).tolist() == whole
        assert message.text(2) == text
        assert message.numbers(3, "<f8").tolist() == reals
        assert message.integer(4) == big
        assert message.numbers(5, "<f4").tolist() == np.array(reals, np.float32).tolist()
        assert [inner.integer(4) for inner in message.messages(6)] == [0, 1, 2]
        packed = b"".join(made.varint(value) for value in whole)
        assert Message(made.block(1, packed)).integers(1).tolist() == whole


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x0b", "unknown kind 3"),
        (b"\x00\x00", "a field 0"),
        (b"\x08", "cut off or too long"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "cut off or too long"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "cut off or too long"),
        (b"\x0a\x05abc", "field 1 is cut off"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "field 1 is cut off"),
        (b"\x09abc", "field 1 is cut off"),
        (b"\x08\x01" * 70_000, "more than 65536 fields"),
    ],
)
def test_bytes_that_are_no_message_are_told(data, said):
    with pytest.raises(WireError, match=said):
        Message(data)


# ---- files that are wrong -----------------------------------------------------------------------------------------


def refused(path: Path, out: Path) -> str:
    """The one sentence with which the log of this file is refused."""
    with pytest.raises(InputError) as told:
        prepare("waymo", path.parent, out)
    said = str(told.value)
    assert said.startswith(str(path)), said
    assert len(said.splitlines()) == 1, said
    assert "copy it again" in said, said
    assert not out.exists()
    return said


@pytest.fixture(scope="module")
def small() -> bytes:
    """One labelled frame without images, as a message."""
    return made.frame(LABELLED, cameras=False)


def put(folder: Path, data: bytes) -> Path:
    path = folder / "log" / made.NAME
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, small):
    record = made.framed(small)
    inside = random.Random(0).sample(range(12, len(record) - 4), 20)
    for cut in (1, 7, 8, 11, 12, 13, *inside, len(record) - 5, len(record) - 4, len(record) - 1):
        for before in (b"", record):
            said = refused(put(tmp_path, before + record[:cut]), tmp_path / "out")
            assert f"is cut off in the record at byte {len(before)}" in said


@pytest.mark.parametrize("place", [0, 7, 8, 11, 12, 500, -5, -4, -1])
def test_a_changed_bit_is_found(tmp_path, small, place):
    data = bytearray(made.framed(small))
    data[place] ^= 16
    assert "another checksum" in refused(put(tmp_path, bytes(data)), tmp_path / "out")


@pytest.mark.parametrize("length", [LONGEST_RECORD + 1, 2**40, 2**63, 2**64 - 1, 1000])
def test_a_length_that_the_file_does_not_have_is_refused(tmp_path, length):
    head = struct.pack("<Q", length)
    said = refused(put(tmp_path, head + made.masked(head) + bytes(100)), tmp_path / "out")
    assert ("claims" in said) == (length > LONGEST_RECORD)


@pytest.mark.parametrize("kind", ["empty", "pickle", "gzip", "text", "parquet"])
def test_another_file_is_refused(tmp_path, small, kind):
    class Call:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    data = {
        "empty": b"",
        "pickle": pickle.dumps(Call()),
        "gzip": zlib.compress(made.framed(small), wbits=31),
        "text": b"version https://git-lfs.github.com/spec/v1\n" * 3,
        "parquet": b"PAR1" + bytes(100) + b"PAR1",
    }[kind]
    said = refused(put(tmp_path, data), tmp_path / "out")
    assert ("is empty" if kind == "empty" else "no TFRecord file") in said
    assert not (tmp_path / "ran").exists()


def lasers(image: bytes) -> bytes:
    """A frame whose upper LiDAR has this first echo."""
    return (
        made.block(1, made.context())
        + made.whole(2, LABELLED)
        + made.transform(3, np.eye(4))
        + made.block(5, made.whole(1, 1) + made.block(2, image))
    )


def ranges(data: bytes) -> bytes:
    return made.block(2, zlib.compress(data))


VALUES = np.ones((8, 60, 4), np.float32)
WRONG_IMAGES = {
    "no range images": (b"", "no range images"),
    "a bomb": (ranges(bytes((1 << 26) + 1)), "larger than 67108864 bytes"),
    "no zlib": (made.block(2, b"abc" * 9), "cannot be unpacked"),
    "cut zlib": (made.block(2, zlib.compress(made.matrix(VALUES))[:-9]), "cut off"),
    "a message cut off": (ranges(made.matrix(VALUES)[:-1]), "cut off"),
    "no shape": (ranges(made.block(1, VALUES.tobytes())), r"1920 numbers are no image of \(\)"),
    "a huge shape": (
        ranges(made.block(1, bytes(16)) + made.block(2, made.whole(1, 2**31 - 1) * 2 + made.whole(1, 4))),
        r"4 numbers are no image of \(2147483647, 2147483647, 4\)",
    ),
    "a negative shape": (
        ranges(made.block(1, bytes(16)) + made.block(2, made.whole(1, -1) * 2 + made.whole(1, 4))),
        "4 numbers are no image of",
    ),
    "other channels": (ranges(made.matrix(VALUES[..., :3])), "with 4 channels"),
    "no whole numbers": (ranges(made.block(1, bytes(15))), "no whole numbers of 4 bytes"),
    "other rows": (ranges(made.matrix(VALUES[:5])), "5 rows for 8 inclinations"),
    "no poses": (ranges(made.matrix(VALUES)), r"no poses for an image of \(8, 60\)"),
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
def test_wrong_range_images_are_told(tmp_path, kind):
    image, want = WRONG_IMAGES[kind]
    path = put(tmp_path, made.framed(lasers(image)))
    index = prepare("waymo", path.parent, tmp_path / "out")
    with pytest.raises(InputError, match=want) as told:
        index.frame(0)
    assert str(told.value).startswith(f"{path}: ")
    assert "copy it again" in str(told.value)


def test_labels_of_another_shape_are_told(tmp_path):
    image = ranges(made.matrix(VALUES)) + made.packed(4, test_waymo.pixel_poses(LABELLED))
    path = put(tmp_path, made.framed(lasers(image + made.packed(6, labels(LABELLED, 1)[:, :-1]))))
    index = prepare("waymo", path.parent, tmp_path / "out")
    with pytest.raises(InputError, match=r"labels of \(8, 59\) for a range image of \(8, 60\)"):
        index.frame(0)


def named(segment: bytes) -> bytes:
    """A frame of a segment of this name."""
    calibration = made.context().removeprefix(made.block(1, SEGMENT.encode()))
    sensors = made.transform(3, np.eye(4)) + made.block(5, made.whole(1, 1))
    return made.block(1, made.block(1, segment) + calibration) + made.whole(2, LABELLED) + sensors


WRONG_FRAMES = {
    "nothing": (b"", "a frame with no time"),
    "no LiDAR": (made.whole(2, LABELLED), "a frame with no LiDAR"),
    "another message": (
        made.block(1, b"feature") + made.whole(2, 5),
        "no frame of Waymo's|a frame with no LiDAR",
    ),
    "a LiDAR twice": (lasers(b"") + made.block(5, made.whole(1, 1)), "the sensor 1 occurs twice"),
    "no calibration": (
        made.block(1, made.block(1, b"name"))
        + made.whole(2, LABELLED)
        + made.transform(3, np.eye(4))
        + made.block(5, made.whole(1, 1)),
        "0 of 5 LiDARs",
    ),
    "no pose": (lasers(b"") + made.block(3, b""), "not sixteen finite numbers"),
    "a pose of nan": (lasers(b"") + made.transform(3, np.full((4, 4), np.nan)), "not sixteen finite"),
    "an image of no camera": (
        lasers(b"") + made.block(4, made.whole(1, 7) + made.transform(3, np.eye(4))),
        "camera 7",
    ),
    "a name of bytes": (named(b"\xff\xfe"), "no UTF-8 text"),
    "no name": (named(b""), "its segment has no name"),
}


@pytest.mark.parametrize("kind", WRONG_FRAMES)
def test_wrong_frames_are_refused(tmp_path, kind):
    data, want = WRONG_FRAMES[kind]
    said = refused(put(tmp_path, made.framed(data)), tmp_path / "out")
    assert any(part in said for part in want.split("|")), said


@pytest.mark.parametrize("name", [b"../../x", b"/etc/x", b"a\nb"])
def test_a_segment_whose_name_is_no_name_of_a_file_is_refused(tmp_path, name):
    path = put(tmp_path, made.framed(named(name)))
    with pytest.raises(InputError, match="cannot be used"):
        prepare("waymo", path.parent, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_one_time_twice_is_refused(tmp_path, small):
    path = put(tmp_path, made.framed(small) * 2)
    assert "is another frame of" in refused(path, tmp_path / "out")


def test_both_versions_in_one_root_are_refused(tmp_path):
    root = test_waymo.write(tmp_path / "both", cameras=False)
    made.write(root, cameras=False, times=TIMES[:1])
    with pytest.raises(InputError, match="give a folder that holds one of them"):
        prepare("waymo", root, tmp_path / "out")


def test_a_file_that_changed_since_it_was_prepared_is_told(path, tmp_path):
    target = tmp_path / "log" / made.NAME
    target.parent.mkdir()
    shutil.copyfile(path, target)
    index = prepare("waymo", target.parent, tmp_path / "out")
    first = index.frame(0).cloud.xyz
    target.write_bytes(b"".join(made.framed(made.frame(time)) for time in TIMES))  # in another order
    with pytest.raises(InputError, match=f"not of {TIMES[0]}; prepare the log again|another checksum"):
        index.frame(0)
    shutil.copyfile(path, target)
    np.testing.assert_array_equal(index.frame(0).cloud.xyz, first)
    target.unlink()
    with pytest.raises(InputError, match="this file is named in the log's tables but is not there"):
        index.frame(0)


def changed(rng: random.Random, data: bytes, most: int) -> bytes:
    """Some of the first ``most`` bytes replaced, left out or more of them."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(min(most, len(found)))
        if rng.random() < 0.5:
            found[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        else:
            found[place : place + rng.choice((0, 1, 8))] = rng.randbytes(rng.choice((0, 1, 8)))
    return bytes(found)


def test_changed_bytes_under_right_checksums_are_taken_or_refused_in_one_sentence(tmp_path, small):
    """Of a whole frame, of its context, of a matrix before it is packed: framed as if they were right."""
    told, card = set(), load_card("waymo")
    whole = made.matrix(VALUES)
    poses = made.packed(4, test_waymo.pixel_poses(LABELLED))
    for seed in range(210):
        rng = random.Random(seed)
        if seed % 3 == 2:
            data = lasers(
                ranges(changed(rng, whole, 12) if seed % 2 else changed(rng, whole[::-1], 9)[::-1]) + poses
            )
        else:
            data = changed(rng, small, (len(small), 1200)[seed % 3])
        path = put(tmp_path, struct.pack("<Q", len(data)) + framing(data))
        try:
            (row,) = scans(path.parent, card, [])
            read = read_waymo(path, row.points.key, ("x", "y", "z", "intensity"))
            if row.labels is not None:
                assert len(read_waymo_labels(path, row.labels.key, ("label",))["label"]) == len(read["x"])
        except InputError as error:
            said = str(error)
            assert said.startswith(f"{path}: "), said
            assert len(said.splitlines()) == 1, said
            assert said.endswith(("copy it again", "copy both again")), said
            told.add(said)
    assert len(told) > 20, "the changes are of many kinds"


def framing(data: bytes) -> bytes:
    """What follows the length of a record; the quick checksum, which is held against the slow one above."""
    head = struct.pack("<I", masked_crc32c(struct.pack("<Q", len(data))))
    return head + bytes(data) + struct.pack("<I", masked_crc32c(bytes(data)))


def test_frames_that_lack_a_lidar_are_told(tmp_path, monkeypatch, caplog):
    whole = made.laser_of
    monkeypatch.setattr(
        made,
        "laser_of",
        lambda time, laser: made.whole(1, 4) if (time, laser) == (TIMES[1], 4) else whole(time, laser),
    )
    path = made.write(tmp_path)
    prepare("waymo", tmp_path, tmp_path / "index")
    assert (
        f"{path}: 1 of 3 frames lack the points of a LiDAR, the first is {TIMES[1]} without SIDE_RIGHT"
        in caplog.text
    )
