"""Messages of bags against the libraries' own readers, and bags that unpack to too much or compute what they hold."""

from __future__ import annotations

import bz2
import os
import random
import shutil
import sqlite3
import struct
from pathlib import Path

import lz4.frame
import pytest
import yaml
import zstandard
from bag_writer import write_bag
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from peak_memory import PeakMemory
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode
from rosbags.rosbag2 import Reader as Reader2
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from superflow.datasets.formats import bag_stores
from superflow.datasets.formats.bag_stores import open_store
from superflow.datasets.formats.bags import Bag, reading_bag
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

ZEROS = 64 << 20  # bytes of a bomb
LITTLE = 32 << 20  # bytes that a refusal may take


def written_mcap(path: Path, messages: list[tuple[str, int, bytes]], **options) -> Path:
    with open(path, "wb") as file:
        writer = McapWriter(file, **options)
        writer.start(library="test")
        schema = writer.register_schema("std_msgs/msg/Header", "ros2msg", b"")
        topics = {topic: writer.register_channel(topic, "cdr", schema) for topic, _, _ in messages}
        for topic, time_ns, data in messages:
            writer.add_message(topics[topic], time_ns, data, time_ns)
        writer.finish()
    return path


@pytest.mark.parametrize("packing", list(CompressionType))
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
def test_messages_of_an_mcap_are_the_librarys_in_its_order(packing, chunked, indexed, tmp_path):
    """Times go back and forth, so that chunks overlap; some are equal."""
    rng = random.Random(3)
    messages = [
        (f"/{rng.choice('abc')}", 1000 + i + rng.randrange(-40, 40), rng.randbytes(30)) for i in range(150)
    ]
    options = {"use_chunking": chunked, "chunk_size": 900, "compression": packing}
    options["index_types"] = IndexType.ALL if indexed else IndexType.NONE
    path = written_mcap(tmp_path / "a.mcap", messages, **options)
    store = open_store(path)
    for topics in (["/a"], ["/a", "/c"], ["/d"]):
        for start, stop in ((None, None), (1030, 1090), (1140, None), (1111, 1112)):
            with open(path, "rb") as file:
                found = make_reader(file).iter_messages(topics=topics, starting_at=start, ending_before=stop)
                want = [(channel.topic, m.log_time, "cdr", m.data) for _, channel, m in found]
            assert list(store.raw(topics, start, stop)) == want


@pytest.mark.parametrize("kind", ["ros2_mcap", "ros2_db3"])
def test_messages_of_a_folder_are_those_of_rosbags(kind, tmp_path):
    folder = write_bag(tmp_path / "drive", kind)
    store = open_store(folder)
    with Reader2(folder) as reader:
        assert {name: topic.messages for name, topic in store.topics.items()} == {
            connection.topic: connection.msgcount for connection in reader.connections
        }
        want = [(connection.topic, time_ns, "cdr", data) for connection, time_ns, data in reader.messages()]
    found = list(store.raw(list(store.topics), None, None))
    assert [row[1] for row in found] == [row[1] for row in want]
    assert sorted(found) == sorted(want)


def packed_folder(path: Path, data: bytes) -> Path:
    """A bag of one message, which is packed."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    writer = Writer2(path, version=9)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/a", "std_msgs/msg/String", typestore=store)
        writer.write(connection, 5, data)
    return path


def test_messages_packed_one_by_one_are_unpacked(tmp_path):
    store = open_store(packed_folder(tmp_path / "a", b"some words"))
    assert list(store.raw(["/a"], None, None)) == [("/a", 5, "cdr", b"some words")]


# ---- bombs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a bomb begins at 4 MiB, so that those of the tests are made quickly."""
    monkeypatch.setattr("superflow.datasets.formats.read.LARGEST", 1 << 22)
    monkeypatch.setattr("superflow.datasets.formats.read.MOST_TIMES", 20)


def read_all(path: Path) -> None:
    bag = Bag(path)
    with reading_bag(path):
        list(bag._store.raw(list(bag.topics), None, None))


def check_refused(path: Path, said: str) -> None:
    with PeakMemory() as memory, pytest.raises(InputError, match=said) as told:
        read_all(path)
    assert str(told.value).startswith(f"{path}: ")
    assert memory.grown < LITTLE


@pytest.mark.parametrize("packing", [CompressionType.LZ4, CompressionType.ZSTD])
@pytest.mark.parametrize("claims", [True, False])
def test_a_chunk_of_zeros_in_an_mcap_is_not_unpacked(packing, claims, tmp_path, small_limit):
    path = written_mcap(tmp_path / "a.mcap", [("/a", 1, bytes(ZEROS))], compression=packing)
    data = path.read_bytes()
    assert len(data) < ZEROS / 100
    if not claims:  # the size lies; what the packing itself says, or holds, does not
        size = struct.pack(
            "<Q", next(size for size in range(ZEROS, ZEROS + 999) if struct.pack("<Q", size) in data)
        )
        assert data.count(size) >= 1
        path.write_bytes(data.replace(size, struct.pack("<Q", 1000), 1))
    check_refused(path, "claims to unpack from .* more than any scan or image")


@pytest.mark.parametrize("packing", list(Writer1.CompressionFormat))
def test_a_chunk_of_zeros_in_a_bag_is_not_unpacked(packing, tmp_path, small_limit):
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = Writer1(tmp_path / "a.bag")
    writer.set_compression(packing)
    with writer:
        connection = writer.add_connection("/a", "std_msgs/msg/String", typestore=store)
        writer.write(connection, 5, bytes(ZEROS))
    assert (tmp_path / "a.bag").stat().st_size < ZEROS / 100
    check_refused(tmp_path / "a.bag", "claims to unpack from .* more than any scan or image")


@pytest.mark.parametrize("says", [True, False])
def test_a_message_of_zeros_is_not_unpacked(says, tmp_path, small_limit):
    folder = packed_folder(tmp_path / "a", b"x")
    packer = zstandard.ZstdCompressor(write_content_size=says)
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as base:
        base.execute("UPDATE messages SET data = ?", (packer.compress(bytes(ZEROS)),))
    base.close()
    check_refused(folder, "claims to unpack from .* more than any scan or image")


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (bz2.compress, bag_stores._bz2),
        (lz4.frame.compress, bag_stores._lz4),
        (zstandard.compress, bag_stores._zstd),
        (zstandard.ZstdCompressor(write_content_size=False).compress, bag_stores._zstd),
    ],
)
def test_a_packed_part_is_the_same_again_or_one_sentence(pack, unpack):
    data = random.Random(1).randbytes(9999)
    assert unpack(Path("a"), pack(data)) == data
    for length in (0, 3, 5000, len(pack(data)) - 9):
        with pytest.raises(InputError, match=r"a: is damaged or no bag"), reading_bag(Path("a")):
            unpack(Path("a"), pack(data)[:length])


def test_a_file_of_another_ending_is_told_what_bags_are(tmp_path):
    scan = tmp_path / "scan.pcd"
    scan.write_text("VERSION .7")
    with pytest.raises(
        InputError, match=r"bags end with \.bag, \.db3, \.mcap, and `superflow prepare folder` reads"
    ):
        Bag(scan)
    scan = scan.rename(tmp_path / "scan.bag")
    with pytest.raises(InputError, match=r"scan\.bag: is damaged or no bag .*; copy it again, or reindex it"):
        Bag(scan)


# ---- databases and folders that are none --------------------------------------------------------------------------


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
ENDLESS += "SELECT x AS id, 1 AS topic_id, x AS timestamp"


@pytest.mark.parametrize(
    ("orders", "what"),
    [
        (
            ["ALTER TABLE messages RENAME TO m", f"CREATE VIEW messages AS {ENDLESS}, x AS data FROM n"],
            "messages",
        ),
        (
            [
                "ALTER TABLE messages DROP COLUMN data",
                "ALTER TABLE messages ADD COLUMN data AS (zeroblob(1000000000))",
            ],
            "messages",
        ),
        ([f"CREATE VIEW other AS {ENDLESS} FROM n"], "other"),
        (["CREATE VIRTUAL TABLE other USING fts5(a)"], "other"),
    ],
)
def test_a_database_that_computes_what_it_holds_is_refused(orders, what, tmp_path):
    folder = write_bag(tmp_path / "drive", "ros2_db3", count=1)
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as base:
        for order in orders:
            base.execute(order)
    base.close()
    for path in (file, folder):
        with pytest.raises(InputError, match=rf"{file.name}: '{what}' in it is computed, which no bag has"):
            Bag(path)


def test_a_name_that_sqlite_takes_for_another_file_is_refused(tmp_path):
    """rosbags hands the name to SQLite as an address, in which %2f is a slash."""
    folder = write_bag(tmp_path / "drive", "ros2_db3", count=1)
    (file,) = folder.glob("*.db3")
    root = tmp_path / "root"
    root.mkdir()
    shutil.move(file, tmp_path / "secret.db3")
    (root / "drive%2f..%2f..%2fsecret.db3").write_bytes(b"")
    with pytest.raises(InputError, match=r"SQLite reads %, \? and # of a name as something else; rename"):
        prepare("ros", root, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"compression_mode": "FILE", "compression_format": "zstd"},
            "holds files compressed as a whole; unpack them",
        ),
        ({"relative_file_paths": ["../secret.db3"]}, "drive/secret.db3: there is no such file"),
        ({"relative_file_paths": ["/etc/passwd"]}, "root/drive: there is no such file"),
        ({"relative_file_paths": [".."]}, r"'..' cannot be the name of a file"),
        ({"relative_file_paths": []}, "names no files of the bag"),
        ({"relative_file_paths": {"a": 1}}, "names no files of the bag"),
        ({"relative_file_paths": ["again"]}, "names 'again', which is a folder and no file of a bag"),
    ],
)
def test_a_folder_of_which_its_list_lies_is_one_sentence(changes, said, tmp_path):
    (tmp_path / "root").mkdir()
    folder = write_bag(tmp_path / "root/drive", "ros2_db3", count=1)
    (folder / "again").symlink_to(folder)
    (tmp_path / "root/secret.db3").write_bytes(next(folder.glob("*.db3")).read_bytes())
    values = yaml.safe_load((folder / "metadata.yaml").read_text())
    values["rosbag2_bagfile_information"] |= changes
    (folder / "metadata.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=said):
        prepare("ros", tmp_path / "root", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".bag", ".db3", ".mcap", ""])
@pytest.mark.parametrize("in_folder", [True, False])
def test_a_pipe_in_the_place_of_a_bag_is_refused(suffix, in_folder, tmp_path):
    """It would be waited for, and a device be read without end."""
    folder = write_bag(tmp_path / "root", "ros2_db3", count=1)
    os.mkfifo(folder / f"pipe{suffix}")
    if in_folder:
        values = yaml.safe_load((folder / "metadata.yaml").read_text())
        values["rosbag2_bagfile_information"]["relative_file_paths"] = [f"pipe{suffix}"]
        (folder / "metadata.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=rf"pipe{suffix}: is a pipe or a device and no file"):
        Bag(folder if in_folder else folder / f"pipe{suffix}")
