"""The words for objects and what they do: ten detection names of nuScenes and two for the rest, and status words.

Datasets name things in many ways; here each has one name. A word that a dataset does not tell stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

OTHER_VEHICLE, OTHER_OBJECT = "other vehicle", "other object"
CATEGORIES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic cone",
    "barrier",
    OTHER_VEHICLE,
    OTHER_OBJECT,
)
CYCLES = frozenset({"motorcycle", "bicycle"})
VEHICLES = frozenset({"car", "truck", "bus", "trailer", "construction vehicle", OTHER_VEHICLE, *CYCLES})
# words for several categories at once
GROUPS = {"vehicle": VEHICLES, "object": frozenset(CATEGORIES)}

MOTIONS = ("moving", "stopped", "parked", "standing", "sitting", "still")
RIDERS = ("with rider", "without rider")
STATUSES = (*MOTIONS, *RIDERS)
# which categories a word can be true of; "still" says that it does not move, and not why
APPLIES = {
    "moving": frozenset(CATEGORIES),
    "still": frozenset(CATEGORIES),
    "stopped": VEHICLES,
    "parked": VEHICLES,
    "standing": frozenset({"pedestrian"}),
    "sitting": frozenset({"pedestrian"}),
    "with rider": CYCLES,
    "without rider": CYCLES,
}

# categories of nuScenes, of which the longest beginning counts; classes of SemanticKITTI and of this package's cards;
# boxes of PandaSet and Argoverse 2 whose classes, if they have any, say less. Case and joints do not matter.
_CATEGORY_OF = {
    **{category: category for category in CATEGORIES},
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "vehicle": OTHER_VEHICLE,
    "human.pedestrian": "pedestrian",
    "movable_object.trafficcone": "traffic cone",
    "movable_object.barrier": "barrier",
    "movable_object": OTHER_OBJECT,
    "static_object.bicycle_rack": OTHER_OBJECT,
    "animal": OTHER_OBJECT,
    "person": "pedestrian",
    "bicyclist": "bicycle",
    "cyclist": "bicycle",
    "motorcyclist": "motorcycle",
    "on-rails": OTHER_VEHICLE,
    "human": "pedestrian",
    "rider": "bicycle",
    "bike": "bicycle",
    "trashcan": OTHER_OBJECT,
    "cone-stone": OTHER_OBJECT,
    "construction_cone": "traffic cone",
    "Other Vehicle - Construction Vehicle": "construction vehicle",
    "Towed Object": "trailer",
    "Emergency Vehicle": OTHER_VEHICLE,
    "REGULAR_VEHICLE": "car",
    "LARGE_VEHICLE": OTHER_VEHICLE,
    "RAILED_VEHICLE": OTHER_VEHICLE,
    **dict.fromkeys(("BOX_TRUCK", "TRUCK_CAB"), "truck"),
    **dict.fromkeys(("SCHOOL_BUS", "ARTICULATED_BUS"), "bus"),
    **dict.fromkeys(("VEHICULAR_TRAILER", "MESSAGE_BOARD_TRAILER", "TRAFFIC_LIGHT_TRAILER"), "trailer"),
    **dict.fromkeys(("OFFICIAL_SIGNALER", "WHEELED_RIDER"), "pedestrian"),
}
# of Argoverse 2, in these letters: the rider, whose cycle has a box of its own
_RIDER_APART = {"BICYCLIST": "pedestrian", "MOTORCYCLIST": "pedestrian"}
# what is no object, by the same rule; a thing of no known name is one all the same
BACKGROUND = frozenset(
    [
        "building",
        "bush",
        "concrete",
        "curb",
        "driveable_surface",
        "driveway",
        "fence",
        "flat",
        "grass",
        "ground",
        "invalid",
        "lane-marking",
        "lane_marker",
        "log",
        "manmade",
        "mud",
        "noise",
        "obstacle",
        "other-object",
        "other-structure",
        "other_flat",
        "other_ground",
        "outlier",
        "parking",
        "plants",
        "pole",
        "puddle",
        "road",
        "road_marking",
        "rubble",
        "sidewalk",
        "sign",
        "static",
        "surface",
        "terrain",
        "traffic_light",
        "traffic_sign",
        "tree",
        "tree_trunk",
        "trunk",
        "unlabeled",
        "vegetation",
        "vehicle.ego",
        "walkable",
        "water",
    ]
)


def _plain(name: str) -> str:
    """ "traffic_cone" of "Traffic Cone" and of "traffic-cone"; dots stay."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_")


# "other object" is SemanticKITTI's word for background, too, and there it stays so
_KNOWN = {_plain(name): word for name, word in {**_CATEGORY_OF, **dict.fromkeys(BACKGROUND)}.items()}
_RIDDEN = ("bicyclist", "cyclist", "motorcyclist", "rider")
# last part of an attribute of nuScenes, or of PandaSet in its schema -> word
_STATUS_OF = {
    "moving": "moving",
    "walking": "moving",
    "stopped": "stopped",
    "parked": "parked",
    "standing": "standing",
    "sitting_lying_down": "sitting",
    "sitting": "sitting",
    "lying": "sitting",
    "with_rider": "with rider",
    "without_rider": "without rider",
}


def category_of(name: str) -> str | None:
    """The word of ``CATEGORIES`` for a category or class of a dataset; None for others, as roads."""
    return _meaning(name)[1]


def is_known(name: str) -> bool:
    """Whether a name of a dataset is that of an object, or of background."""
    return _meaning(name)[0]


def annotated_category(name: str, class_name: str) -> str | None:
    """The word for something that was annotated as a thing of its own; None where it is background.

    A name that nobody knows is told by the class that the dataset's card puts it into, else it is an other object: a
    thing that is left out would be a silent no.
    """
    return next((category_of(text) for text in (name, class_name) if is_known(text)), OTHER_OBJECT)


def _meaning(name: str) -> tuple[bool, str | None]:
    """Whether a name is known, and its category, None of background."""
    if name in _RIDER_APART:
        return True, _RIDER_APART[name]
    return next(((True, _KNOWN[part]) for part in _beginnings(name) if part in _KNOWN), (False, None))


def _beginnings(name: str) -> Iterator[str]:
    """The name, then it without its last part, and so on: vehicle.bus.bendy, vehicle.bus, vehicle."""
    name = _plain(name).removeprefix("moving_")
    while name:
        yield name
        name = name.rpartition(".")[0]


def status_of(attributes: str) -> tuple[str, ...]:
    """The words of ``STATUSES`` that attributes, joined by spaces, tell; attributes of other things say nothing."""
    found = {_STATUS_OF.get(name.rpartition(".")[2]) for name in attributes.split()}
    return tuple(word for word in STATUSES if word in found)


def status_of_class(name: str) -> tuple[str, ...]:
    """What a class name itself tells: SemanticKITTI's ``moving-car`` moves, its ``bicyclist`` is a ridden bicycle."""
    plain = _plain(name)
    ridden = ("with rider",) if plain.removeprefix("moving_") in _RIDDEN else ()
    return (("moving",) if plain.startswith("moving_") else ()) + ridden
