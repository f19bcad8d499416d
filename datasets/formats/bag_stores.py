"""What holds the messages of a bag: ``.bag`` of ROS 1, ``.db3``, ``.mcap`` of either, or a folder.

rosbags reads the first two, mcap the records of the third. None of them asks how much a part unpacks to, and a .db3 is
a whole database, which may compute what it gives; so that is looked at here.
"""

from __future__ import annotations

import bz2
import heapq
import os
import sqlite3
import sys
from collections.abc import Collection, Generator, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import BufferedReader, FileIO
from itertools import count
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from ...errors import InputError, require
from ...files.access import check_has_an_end, file_in, reading
from . import read
from .read import check_unpacked
from .yaml_files import read_yaml

TF = "tf2_msgs/msg/TFMessage"
METADATA = "metadata.yaml"  # of a folder that is a bag
_RECORD = 1 << 30  # bytes of the largest record of an MCAP that is read

Raw = Generator[tuple[str, int, str, bytes], None, None]  # topic, time [ns], encoding, bytes


class Topic(NamedTuple):
    """Its type, as ``sensor_msgs/msg/PointCloud2``, and how many messages it has."""

    type: str
    messages: int


class Store(Protocol):
    """What holds the messages: the topics, and their bytes by time [ns]."""

    topics: dict[str, Topic]

    def raw(self, topics: Collection[str], start: int | None, stop: int | None) -> Raw:
        """The messages of some topics at or after, and before two times, in the order of time."""


def open_store(path: Path) -> Store:
    """Of the kind that its name says. Whatever libraries raise over damaged bytes comes through.

    Raises:
        InputError: it is no file or folder, is packed as a whole, computes what it holds, or claims to unpack to more
            than any bag.
    """
    check_has_an_end(path)
    if path.is_dir():
        return _Folder(path)
    if path.suffix == ".mcap":
        return _Mcap(path)
    return _Sqlite(path) if path.suffix == ".db3" else _Bag1(path)


def _count(topics: dict[str, Topic], name: str, type: str, messages: int) -> None:
    before = topics.get(name)
    topics[name] = Topic(_plain_type(type), (before.messages if before else 0) + messages)


def _plain_type(name: str) -> str:
    """``sensor_msgs/msg/Image`` of ROS 1's ``sensor_msgs/Image``."""
    if name in ("tf/tfMessage", "tf/msg/tfMessage"):
        return TF
    package, _, rest = name.partition("/")
    return name if rest.startswith("msg/") or not rest else f"{package}/msg/{rest}"


class _Folder:
    """A folder with a metadata.yaml, whose files are read one after the other."""

    def __init__(self, path: Path) -> None:
        about = read_yaml(path / METADATA).get("rosbag2_bagfile_information")
        about = about if isinstance(about, dict) else {}
        names = about.get("relative_file_paths")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
            raise InputError(
                f"{path / METADATA}: names no files of the bag; copy it again, or reindex the bag"
            )
        mode = str(about.get("compression_mode") or "").lower()
        if mode == "file" or any(name.endswith(".zstd") for name in names):
            raise InputError(
                f"{path}: holds files compressed as a whole; unpack them first, with `ros2 bag convert`"
            )
        self._path, self._is_packed = path, mode == "message"
        self._stores: list[Store] = []
        for name in names:
            file = file_in(path, PurePath(name).name)
            if file.is_dir():
                raise InputError(
                    f"{path / METADATA}: names {name!r}, which is a folder and no file of a bag; copy it again"
                )
            self._stores.append(open_store(file))
        self.topics: dict[str, Topic] = {}
        for store in self._stores:
            for name, topic in store.topics.items():
                _count(self.topics, name, *topic)

    def raw(self, topics: Collection[str], start: int | None, stop: int | None) -> Raw:
        for store in self._stores:
            for topic, time_ns, encoding, data in store.raw(topics, start, stop):
                yield topic, time_ns, encoding, _zstd(self._path, data) if self._is_packed else data


class _Rosbag:
    """One file that rosbags reads."""

    encoding: str

    def __init__(self, path: Path, reader: Any) -> None:
        self._reader = reader
        reader.open()
        self.topics: dict[str, Topic] = {}
        for connection in reader.connections:
            _count(self.topics, connection.topic, connection.msgtype, connection.msgcount)

    def raw(self, topics: Collection[str], start: int | None, stop: int | None) -> Raw:
        wanted = [connection for connection in self._reader.connections if connection.topic in topics]
        if not wanted:
            return
        for connection, time_ns, data in self._reader.messages(connections=wanted, start=start, stop=stop):
            yield connection.topic, time_ns, self.encoding, data


class _Bag1(_Rosbag):
    encoding = "ros1"

    def __init__(self, path: Path) -> None:
        super().__init__(path, require("rosbags.rosbag1", "ros").Reader(path))
        unpack = {bz2.decompress: _bz2, require("lz4.frame", "ros").decompress: _lz4}
        for place, chunk in self._reader.chunks.items():
            if chunk.decompressor in unpack:
                bounded = partial(unpack[chunk.decompressor], path)
                self._reader.chunks[place] = chunk._replace(decompressor=bounded)


class _Sqlite(_Rosbag):
    encoding = "cdr"

    def __init__(self, path: Path) -> None:
        _check_tables(path)
        super().__init__(path, require("rosbags.rosbag2", "ros").Reader(path))


def _check_tables(path: Path) -> None:
    """Nothing in the database is computed, which may never end; its name is none that SQLite takes for another one."""
    if any(sign in str(path) for sign in "%?#"):
        raise InputError(
            f"{path}: SQLite reads %, ? and # of a name as something else; rename the file or folder"
        )
    place = quote(str(path.absolute()))
    with reading(path), open(path, "rb"):  # what the system refuses has words of its own
        pass
    base = sqlite3.connect(f"file:{place}?immutable=1", uri=True)
    try:
        kinds = base.execute("SELECT name, type, sql FROM sqlite_master").fetchall()
        for name, kind, text in kinds:
            is_plain = kind in ("table", "index") and "virtual" not in str(text).lower().split()[1:2]
            columns = (
                base.execute("SELECT hidden FROM pragma_table_xinfo(?)", (name,)) if kind == "table" else ()
            )
            if not is_plain or any(hidden for (hidden,) in columns):
                raise InputError(
                    f"{path}: {str(name)[:40]!r} in it is computed, which no bag has; record it again"
                )
    finally:
        base.close()


class _Sized(BufferedReader):
    """A file of which no more is read than there is, whatever number of bytes a damaged length asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        return super().read(left if size is None or size < 0 else min(size, left))


class _Mcap:
    """An MCAP file with a summary."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            self._file = _Sized(FileIO(path))  # stays open with the bag
        reader = require("mcap.reader", "ros").SeekingReader(self._file, record_size_limit=_RECORD)
        summary = reader.get_summary()
        if summary is None:
            raise InputError(
                f"{path}: has no summary, its writer was stopped; run `mcap recover` on it first"
            )
        self._summary = summary
        self._last: tuple[int, list[Any]] = (-1, [])  # where a chunk begins, its messages
        counts = summary.statistics.channel_message_counts if summary.statistics else {}
        self.topics: dict[str, Topic] = {}
        for number, channel in summary.channels.items():
            schema = summary.schemas.get(channel.schema_id)
            _count(self.topics, channel.topic, schema.name if schema else "", counts.get(number, 0))

    def raw(self, topics: Collection[str], start: int | None, stop: int | None) -> Raw:
        channels = {number: one for number, one in self._summary.channels.items() if one.topic in topics}
        chunks = self._summary.chunk_indexes
        found = self._of_chunks(channels, start, stop) if chunks else self._without_chunks(channels)
        for message in found:
            if (start is None or message.log_time >= start) and (stop is None or message.log_time < stop):
                channel = channels[message.channel_id]
                yield channel.topic, message.log_time, channel.message_encoding, message.data

    def _of_chunks(self, channels: Collection[int], start: int | None, stop: int | None) -> Iterator[Any]:
        """By time, then by their places; chunks overlap, so messages wait until no later one can begin before them."""
        waiting: list[tuple[int, int, int, Any]] = []
        number = count()
        for chunk in sorted(self._summary.chunk_indexes, key=_start):
            if (start is not None and chunk.message_end_time < start) or (
                stop is not None and chunk.message_start_time >= stop
            ):
                continue
            listed = chunk.message_index_offsets
            if listed and not any(channel in channels for channel in listed):
                continue
            while waiting and waiting[0][0] < chunk.message_start_time:
                yield heapq.heappop(waiting)[-1]
            for message in self._messages(chunk.chunk_start_offset):
                if message.channel_id in channels:
                    heapq.heappush(
                        waiting, (message.log_time, chunk.chunk_start_offset, next(number), message)
                    )
        while waiting:
            yield heapq.heappop(waiting)[-1]

    def _messages(self, offset: int) -> list[Any]:
        """Of the chunk at ``offset``; the last one is kept, as a scan and its images mostly share one."""
        if self._last[0] != offset:
            stream = require("mcap.data_stream", "ros").ReadDataStream(self._file)
            records = require("mcap.records", "ros")
            self._file.seek(offset + 9)  # behind opcode and length
            found = self._broken_up(records.Chunk.read(stream))
            self._last = (offset, [record for record in found if isinstance(record, records.Message)])
        return self._last[1]

    def _without_chunks(self, channels: Collection[int]) -> Iterator[Any]:
        """All messages of the channels, by time; a chunk that no index names is broken up here, too."""
        records, stream = require("mcap.records", "ros"), require("mcap.stream_reader", "ros")
        self._file.seek(0)
        found: list[Any] = []
        for record in stream.StreamReader(self._file, emit_chunks=True, record_size_limit=_RECORD).records:
            inside = self._broken_up(record) if isinstance(record, records.Chunk) else [record]
            found += [
                one for one in inside if isinstance(one, records.Message) and one.channel_id in channels
            ]
        yield from sorted(found, key=lambda message: message.log_time)

    def _broken_up(self, chunk: Any) -> list[Any]:
        check_unpacked(self._path, chunk.uncompressed_size, len(chunk.data))
        unpack = {"zstd": _zstd, "lz4": _lz4}.get(chunk.compression)
        if unpack is not None:
            chunk = replace(chunk, compression="", data=unpack(self._path, chunk.data))
        found: list[Any] = require("mcap.stream_reader", "ros").breakup_chunk(chunk)
        return found


def _start(chunk: Any) -> tuple[int, int]:
    """Time and place at which a chunk of an MCAP begins."""
    return chunk.message_start_time, chunk.chunk_start_offset


def _most(data: bytes) -> int:
    """Bytes that ``data`` may unpack to."""
    return max(read.LARGEST, read.MOST_TIMES * len(data))


def _whole(path: Path, unpacked: bytes, packed: bytes, is_whole: bool) -> bytes:
    if not is_whole:
        check_unpacked(path, len(unpacked) + 1, len(packed))
        raise ValueError("a packed part is cut off")
    return unpacked


def _zstd(path: Path, data: bytes) -> bytes:
    # part of Python from 3.14 on
    zstd = (
        import_module("compression.zstd") if sys.version_info >= (3, 14) else require("backports.zstd", "ros")
    )
    check_unpacked(path, zstd.get_frame_info(data).decompressed_size or 0, len(data))  # None: not said
    unpacker = zstd.ZstdDecompressor()
    return _whole(path, unpacker.decompress(data, max_length=_most(data)), data, unpacker.eof)


def _lz4(path: Path, data: bytes) -> bytes:
    unpacker = require("lz4.frame", "ros").LZ4FrameDecompressor()
    return _whole(path, unpacker.decompress(data, max_length=_most(data)), data, unpacker.eof)


def _bz2(path: Path, data: bytes) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    return _whole(path, unpacker.decompress(data, max_length=_most(data)), data, unpacker.eof)
