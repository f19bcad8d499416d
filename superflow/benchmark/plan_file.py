"""Plans of benchmarks: YAML files whose keys are the fields of a dataclass, some with named entries of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ..datasets.formats.yaml_files import read_yaml
from ..errors import InputError, MissingFileError, suggest

Plan = TypeVar("Plan")
_EACH = "each"  # in the metadata of a field: the dataclass of its entries
# key that only plans of this kind have -> the kind
_KINDS = {"protocols": "sets", "families": "questions", "evaluations": "places"}


def entries(kind: type, **options: Any) -> Any:
    """A field of a plan that holds entries by name, each an object of the dataclass ``kind``."""
    return field(metadata={_EACH: kind}, **options)


def find_plan(path: Path) -> Path:
    """The YAML file ``path``, or the shipped plan of that name.

    Raises:
        MissingFileError: there is neither.
    """
    import superflow

    shipped = (Path(root) / "configs" / "benchmark" / f"{path.stem}.yaml" for root in superflow.__path__)
    for candidate in (path, *shipped):
        if candidate.is_file():
            return candidate
    raise MissingFileError(f"{path}: there is no such plan; give a YAML file or the name of a shipped one")


def kind_of_plan(path: Path) -> str:
    """``sets``, ``questions``, ``places`` or ``one log``."""
    content = read_yaml(path)
    return next((kind for key, kind in _KINDS.items() if key in content), "one log")


def read_plan(path: Path, kind: Callable[..., Plan], /, **given: Any) -> Plan:
    """The plan in a YAML file, as an object of its dataclass.

    Args:
        given: fields that the file cannot set.

    Raises:
        InputError: an unknown key, one that is lacking, or a value where a mapping is due.
    """
    return read_entry(kind, read_yaml(path), f"{path}", **given)


def read_entry(kind: Callable[..., Plan], content: Any, where: str, /, **given: Any) -> Plan:
    """An object of the dataclass ``kind`` from the mapping ``content``; see `read_plan`."""
    if not isinstance(content, dict):
        raise InputError(f"{where} is {content!r}; give a mapping")
    known = {f.name: f for f in fields(kind) if f.name not in given}  # type: ignore[arg-type]
    refuse_unknown(content, known, where)
    made = dict(content)
    for name, own in known.items():
        required = own.default is MISSING and own.default_factory is MISSING
        each, value = own.metadata.get(_EACH), content.get(name)
        if not required and (name not in content or (value is None and own.default is None)):
            continue
        if each is not None or str(own.type).startswith("Mapping"):
            if not isinstance(value, dict) or (required and each is not None and not value):
                raise InputError(f"{where}: needs a mapping with the key {name}")
        elif name not in content:
            raise InputError(f"{where} lacks {name!r}; its keys are {', '.join(known)}")
        if each is not None:
            found = _read_entries(each, value, f"{where}: {name}")
            made[name] = tuple(found.values()) if str(own.type).startswith("tuple") else found
    return kind(**made, **given)


def _read_entries(kind: type, content: Any, where: str) -> dict[str, Any]:
    is_named = any(f.name == "name" for f in fields(kind))
    return {
        str(name): read_entry(kind, entry, f"{where}: {name!r}", **({"name": str(name)} if is_named else {}))
        for name, entry in content.items()
    }


def refuse_unknown(content: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise an InputError for the first key of ``content`` that is none of ``known``."""
    if unknown := sorted(set(content) - set(known)):
        raise InputError(f"{where}: {unknown[0]!r} is unknown; the keys are {', '.join(known)}")


def refer(names: Iterable[Any], to: Mapping[str, Any], where: str) -> None:
    """Raise an InputError for the first of ``names`` that is none of ``to``."""
    for name in names:
        if name not in to:
            raise InputError(f"{where}: there is no {name!r}{suggest(str(name), to)}")
