"""What the classes of a made street are called in a dataset: of words in order, the first that its card has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...datasets.card import DatasetCard
from ...errors import InputError
from ...street.classes import FINER_CATEGORIES

_PERSON = ("person", "pedestrian", "1 person", "male")
_OBJECT = ("other-object", "trashcan", "garbage-can", "dynamic", "other", "undefined", "void", "unlabeled")
_LARGE = ("other-vehicle", "truck", "vehicle", "car")
_ROAD = ("road", "ground", "concrete")
_RIDER = ("rider", *_PERSON)
# a class of the street, or what its name begins with -> words; longer names count first
_WORDS = {
    "noise": ("noise", "unlabeled", "undefined", "void"),
    "animal": _OBJECT,
    "human": _PERSON,
    "movable_object": _OBJECT,
    "movable_object.barrier": ("barrier", "guardrail", "fence", "other-structure", *_OBJECT),
    "movable_object.trafficcone": ("construction-cone", "traffic-cone", "cone/stone", *_OBJECT),
    "static_object": _OBJECT,
    "vehicle": _LARGE,
    "vehicle.bicycle": ("bicycle", "bike", "vehicle"),
    "vehicle.bicycle.rider": ("bicyclist", *_RIDER),
    "vehicle.bus": ("bus", *_LARGE),
    "vehicle.car": ("car", "vehicle"),
    "vehicle.motorcycle": ("motorcycle", "bike", "vehicle"),
    "vehicle.motorcycle.rider": ("motorcyclist", *_RIDER),
    "vehicle.truck": ("truck", "vehicle", "car"),
    "flat.driveable_surface": _ROAD,
    "flat.driveable_surface.parking": ("parking", *_ROAD),
    "flat.other": ("other-ground", *_ROAD),
    "flat.sidewalk": ("sidewalk", "ground", "rubble"),
    "flat.terrain": ("terrain", "walkable", "grass", "ground"),
    "static": ("other-structure", "building", "static"),
    "static.manmade.building": ("building",),
    "static.manmade.wall": ("wall", "other-structure", "building", "barrier"),
    "static.manmade.fence": ("fence", "fences", "building"),
    "static.manmade.pole": ("pole",),
    "static.manmade.traffic_sign": (
        "traffic-sign",
        "trafficsign",
        "sign",
        "traffic sign 1 (standing)",
        "pole",
    ),
    "static.manmade.traffic_light": ("traffic-light", "trafficlight", "traffic-sign", "pole"),
    "static.vegetation": ("vegetation", "plants", "bush"),
    "static.vegetation.trunk": ("trunk", "tree-trunk", "tree", "vegetation"),
}


def raw_ids(card: DatasetCard, *, merged: bool = False) -> NDArray[np.uint32]:
    """(F,) number in the label files of each of the street's finer classes.

    Args:
        merged: as published files have it that know no category below a class: the first one of each.

    Raises:
        InputError: the card has no word for one of them.
    """
    number_of = {_plain(name): raw for raw, name in sorted(card.categories.items(), reverse=True)}
    found = np.zeros(len(FINER_CATEGORIES), np.uint32)
    for row, name in enumerate(FINER_CATEGORIES):
        key = max((key for key in _WORDS if f"{name}.".startswith(f"{key}.")), key=len)
        words = [word for word in _WORDS[key] if word in number_of]
        if not words:
            raise InputError(
                f"the card {card.name} has no category for {name}; add a word of it to {__name__}"
            )
        found[row] = number_of[words[0]]
    return _first_of_class(card, found) if merged else found


def _first_of_class(card: DatasetCard, numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The lowest number of the class of each; 0 for those of none."""
    first: dict[int, int] = {}
    for raw, name in sorted(card.categories.items(), reverse=True):
        if name in card.class_of:
            first[card.class_of[name]] = raw
    classes = card.label_map[numbers]
    return np.array([first.get(int(number), 0) for number in classes], np.uint32)


def _plain(name: str) -> str:
    """One spelling of a category: Waymo's are TYPE_TREE_TRUNK."""
    return name.removeprefix("TYPE_").lower().replace("_", "-")
