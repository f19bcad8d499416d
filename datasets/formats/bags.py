"""ROS bags without ROS: messages of some topics in the order of time, and single ones again by their time.

Messages are decoded by the standard definitions of their types, never by those in the bag, which are turned into code.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import InputError, first_line, require
from ...files.access import reading
from .bag_stores import METADATA, TF, open_store

TYPESTORE = "ros2_jazzy"  # of messages of ROS 2; other releases know the same types of sensors
_ROS1 = "ros1_noetic"
_SUFFIXES = (".bag", ".db3", ".mcap")


class Bag:
    """An open bag. ``topics``: name -> `bag_stores.Topic`."""

    def __init__(self, path: Path, typestore: str = TYPESTORE) -> None:
        """Raises ``InputError`` where the file is none, is damaged, or there is no such type store."""
        self.path = path
        self._stores: dict[str, Any] = {}
        self._typestore = check_typestore(typestore)
        with reading_bag(path):
            self._store = open_store(path)
        self.topics = self._store.topics

    def messages(
        self, topics: Collection[str], *, start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[str, int, Any], None, None]:
        """Topic, time of recording [ns] and message of all messages of some topics, in the order of time.

        Args:
            start, stop: only those at or after, and before these times [ns].

        Raises:
            InputError: the bag is damaged, or a message is not what its type says.
        """
        with reading_bag(self.path), closing(self._store.raw(topics, start, stop)) as found:
            for topic, time_ns, encoding, data in found:
                yield topic, time_ns, self._decode(topic, encoding, data)

    def message(self, topic: str, time_ns: int, number: int = 0) -> Any:
        """The message of a topic at a time of recording [ns], of several the one of this number.

        Raises:
            InputError: there is none.
        """
        with closing(self.messages((topic,), start=time_ns, stop=time_ns + 1)) as found:
            for _, _, message in islice(found, number, None):
                return message
        raise InputError(f"{self.path}: has no message of {topic} at {time_ns} ns; prepare the log again")

    def _decode(self, topic: str, encoding: str, data: bytes) -> Any:
        name = _ROS1 if encoding == "ros1" else self._typestore
        if name not in self._stores:
            self._stores[name] = _typestore(name)
        store, type = self._stores[name], self.topics[topic].type
        if type not in store.types:
            raise InputError(
                f"{self.path}: {topic} is of the type {type}, which {name} does not know; leave it out with --topics"
            )
        return store.deserialize_ros1(data, type) if encoding == "ros1" else store.deserialize_cdr(data, type)


def _typestore(name: str) -> Any:
    typesys = require("rosbags.typesys", "ros")
    store = typesys.get_typestore(typesys.Stores(name))
    if name == _ROS1:  # knows all of ours but this one
        store.register(typesys.get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF))
    return store


def check_typestore(name: str) -> str:
    """The name of a store of message types.

    Raises:
        InputError: there is none of this name.
    """
    known = [store.value for store in require("rosbags.typesys", "ros").Stores]
    if name not in known:
        raise InputError(f"--typestore {name}: there is no such store; choose one of {', '.join(known)}")
    return name


def find_bags(root: Path) -> list[str]:
    """Paths below ``root``, up to two folders down, of bags and of folders that are bags.

    Raises:
        InputError: ``root`` is itself such a folder.
    """
    if (root / METADATA).is_file():
        raise InputError(
            f"{root}: is itself a bag; give it with --bag, or the folder that holds it with --root"
        )
    found = []
    with reading(root):
        for path in sorted([*root.glob("[!.]*"), *root.glob("[!.]*/[!.]*")]):
            inside = path.relative_to(root)
            in_bag = len(inside.parts) == 2 and (path.parent / METADATA).is_file()
            if (path.suffix in _SUFFIXES and path.is_file() and not in_bag) or (path / METADATA).is_file():
                found.append(inside.as_posix())
    return found


@contextmanager
def reading_bag(path: Path) -> Iterator[None]:
    """Turn what the libraries raise over a damaged bag into one sentence."""
    try:
        yield
    except (InputError, ImportError):
        raise
    except OSError as error:
        with reading(path):
            raise error
    # damaged bytes reach every line of these libraries: assertions, indices, sizes, text, compression
    except Exception as error:
        again = "copy it again, or reindex it"
        if path.is_file() and path.suffix not in _SUFFIXES:
            again = (
                f"bags end with {', '.join(_SUFFIXES)}, and `superflow prepare folder` reads files of points"
            )
        raise InputError(f"{path}: is damaged or no bag ({first_line(error)[:150]}); {again}") from error
