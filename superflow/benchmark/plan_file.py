"""Plans of benchmarks: YAML files whose keys are the fields of a dataclass, some with named entries of another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..datasets.formats.yaml_files import read_yaml
from ..errors import InputError, MissingFileError, suggest
from .results import slug

Plan = TypeVar("Plan")
_EACH = "each"  # in the metadata of a field: the dataclass of its entries
_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number, with a point: 1.0e-3",  # 1e-3 is text to YAML
    NoneType: "null",
}
_LISTS = (Sequence, tuple)  # types of fields that a list of a YAML file may be
_MOST_SEED = 2**32 - 1  # what NumPy takes
_SHIPPED_IN = ("configs", "benchmark")  # of a checkout, or of the package
# key that only plans of this kind have -> the kind
_KINDS = {"protocols": "sets", "families": "questions", "evaluations": "places"}


def entries(kind: type, **options: Any) -> Any:
    """A field of a plan that holds entries by name, each an object of the dataclass ``kind``."""
    return field(metadata={_EACH: kind}, **options)


def shipped_plans() -> dict[str, Path]:
    """The plans that come with the package, by their names."""
    import superflow

    folders = [Path(root, *_SHIPPED_IN) for root in superflow.__path__]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def find_plan(path: Path) -> Path:
    """The YAML file ``path``, or the shipped plan of that name.

    Raises:
        MissingFileError: there is neither.
    """
    if path.is_file():
        return path
    shipped = shipped_plans()
    # another folder or ending is another file, of the same name or not: a slip in it must not run this one
    is_name = path.parts[:-1] in ((), _SHIPPED_IN) and path.suffix in ("", ".yaml")
    if is_name and path.stem in shipped:
        return shipped[path.stem]
    near = suggest(path.stem, shipped)
    raise MissingFileError(
        f"{path}: there is no such plan; give a YAML file or the name of a shipped one{near}"
    )


def kind_of_plan(path: Path) -> str:
    """``sets``, ``questions``, ``places`` or ``one log``."""
    content = read_yaml(path)
    return next((kind for key, kind in _KINDS.items() if key in content), "one log")


def read_plan(path: Path, kind: Callable[..., Plan], /, **given: Any) -> Plan:
    """The plan in a YAML file, as an object of its dataclass.

    Args:
        given: fields that the file cannot set.

    Raises:
        InputError: an unknown key, one that is lacking, or a value of another type than the field's.
    """
    return read_entry(kind, read_yaml(path), f"{path}", **given)


def read_entry(kind: Callable[..., Plan], content: Any, where: str, /, **given: Any) -> Plan:
    """An object of the dataclass ``kind`` from the mapping ``content``; see `read_plan`."""
    if not isinstance(content, dict):
        raise InputError(f"{where} is {content!r}; give a mapping")
    known = {f.name: f for f in fields(kind) if f.name not in given}  # type: ignore[arg-type]
    refuse_unknown(content, known, where)
    made, types = dict(content), get_type_hints(kind)
    for name, own in known.items():
        required = own.default is MISSING and own.default_factory is MISSING
        each, value = own.metadata.get(_EACH), content.get(name)
        if not required and (name not in content or (value is None and own.default is None)):
            continue
        if each is not None or get_origin(types[name]) is Mapping:
            if not isinstance(value, dict) or (required and each is not None and not value):
                raise InputError(f"{where}: needs a mapping with the key {name}")
        elif name not in content:
            raise InputError(f"{where} lacks {name!r}; its keys are {', '.join(known)}")
        if each is not None:
            found = _read_entries(each, value, f"{where}: {name}")
            made[name] = tuple(found.values()) if str(own.type).startswith("tuple") else found
        else:
            check_value(value, types[name], f"{where}: {name}")
    try:
        return kind(**made, **given)
    except InputError as error:  # of values that do not go together, which a dataclass looks at itself
        raise InputError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


def check_value(value: Any, kind: Any, what: str) -> None:
    """Raise an InputError where a value of a YAML file is of another type than ``kind``, or a number not finite."""
    if not _fits(value, kind):
        raise InputError(f"{what} is {value!r}; give {_words(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    inner = get_args(kind)
    if kind is Any:
        return True
    if get_origin(kind) is Mapping:
        return isinstance(value, dict) and all(_fits(each, inner[1]) for each in value.values())
    if get_origin(kind) in _LISTS:
        of_length = len(inner) if get_origin(kind) is tuple and Ellipsis not in inner else None
        is_list = isinstance(value, list | tuple) and of_length in (None, len(value))
        return is_list and all(_fits(each, inner[0]) for each in value)
    if inner:
        return any(_fits(value, each) for each in inner)
    if kind in (int, float):
        is_number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return is_number and abs(value) < float("inf")
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    """What to write for a field of the type ``kind``."""
    inner = get_args(kind)
    if get_origin(kind) in (Mapping, *_LISTS):
        is_mapping = get_origin(kind) is Mapping
        what, each = ("a mapping", inner[1]) if is_mapping else ("a list", inner[0])
        what += f" of {len(inner)}" if get_origin(kind) is tuple and Ellipsis not in inner else ""
        return what if each is Any else f"{what}, each of its values {_words(each)}"
    return " or ".join(_words(each) for each in inner) if inner else _WORDS.get(kind, kind.__name__)


def refuse_same_files(names: Iterable[str], where: str) -> None:
    """Raise an InputError for a name that files and folders cannot have, or two in one form, see `results.slug`."""
    before: dict[str, str] = {}
    for name in names:
        if not slug(name):
            raise InputError(f"{where}: {name!r} has no letter and no digit to name files by; give it some")
        if (other := before.setdefault(slug(name), name)) != name:
            raise InputError(
                f"{where}: files of {other!r} and {name!r} would have one name; let more letters differ"
            )


def check_seeds(seeds: Sequence[int], where: str) -> list[int]:
    """The seeds of a benchmark.

    Raises:
        InputError: there are none, one is negative or beyond 32 bits, or one is there twice.
    """
    wrong = [seed for seed in seeds if not 0 <= seed <= _MOST_SEED or list(seeds).count(seed) > 1]
    if wrong or not seeds:
        given = " ".join(map(str, seeds)) or "empty"
        raise InputError(f"{where} is {given}; give different whole numbers from 0 to {_MOST_SEED}")
    return list(seeds)


def _read_entries(kind: type, content: Any, where: str) -> dict[str, Any]:
    is_named = any(f.name == "name" for f in fields(kind))
    found: dict[str, Any] = {}
    for name, entry in content.items():
        # yes and null are no text to YAML
        if not isinstance(name, str | int) or isinstance(name, bool) or not str(name).strip():
            raise InputError(
                f"{where}: {name!r} is no name; give text, in quotes where YAML has a meaning for it"
            )
        if str(name) in found:
            raise InputError(f"{where}: {name!r} is there twice, as a number and as text; name them apart")
        own = {"name": str(name)} if is_named else {}
        found[str(name)] = read_entry(kind, entry, f"{where}: {name!r}", **own)
    return found


def refuse_unknown(content: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise an InputError for the first key of ``content`` that is none of ``known``."""
    if unknown := sorted(set(content) - set(known), key=str):  # keys of YAML may be of several types
        raise InputError(f"{where}: {unknown[0]!r} is unknown; the keys are {', '.join(known)}")


def refuse_absent(names: Iterable[str], known: Collection[str], whose: str) -> None:
    """Raise an InputError for the first of ``names`` that a call asks for and that ``whose`` has not."""
    for name in names:
        if name not in known:
            raise InputError(f"{whose} has no {name!r}; it has {', '.join(known)}")


def refer(names: Iterable[Any], to: Mapping[str, Any], where: str) -> None:
    """Raise an InputError for the first of ``names`` that is none of ``to``."""
    for name in names:
        if name not in to:
            raise InputError(f"{where}: there is no {name!r}{suggest(str(name), to)}")
