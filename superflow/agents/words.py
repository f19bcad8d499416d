"""The words for objects and what they do: ten detection names of nuScenes and two for the rest, and status words.

Datasets name things in many ways; here each has one name. A word that a dataset does not tell stays unknown.
"""

from __future__ import annotations

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

# categories of nuScenes, of which the longest beginning counts; classes of SemanticKITTI and of this package's cards
_CATEGORY_OF = {
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
    "car": "car",
    "truck": "truck",
    "bus": "bus",
    "trailer": "trailer",
    "construction_vehicle": "construction vehicle",
    "motorcycle": "motorcycle",
    "bicycle": "bicycle",
    "pedestrian": "pedestrian",
    "person": "pedestrian",
    "bicyclist": "bicycle",
    "cyclist": "bicycle",
    "motorcyclist": "motorcycle",
    "traffic_cone": "traffic cone",
    "barrier": "barrier",
    "on-rails": OTHER_VEHICLE,
    "other-vehicle": OTHER_VEHICLE,
    "other_vehicle": OTHER_VEHICLE,
    "human": "pedestrian",
    "rider": "bicycle",
    "bike": "bicycle",
    "traffic-cone": "traffic cone",
    "trashcan": OTHER_OBJECT,
    "cone-stone": OTHER_OBJECT,
    "construction_cone": "traffic cone",
}
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
        "other-ground",
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
        "traffic-sign",
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
    for part in _beginnings(name):
        if part in _CATEGORY_OF or part in BACKGROUND:
            return _CATEGORY_OF.get(part)
    return None


def annotated_category(name: str, class_name: str) -> str | None:
    """The word for something that was annotated as a thing of its own; None where it is background.

    A name that nobody knows is told by the class that the dataset's card puts it into, else it is an other object: a
    thing that is left out would be a silent no.
    """
    for text in (name, class_name):
        if any(part in _CATEGORY_OF or part in BACKGROUND for part in _beginnings(text)):
            return category_of(text)
    return OTHER_OBJECT


def _beginnings(name: str) -> Iterator[str]:
    """The name, then it without its last part, and so on: vehicle.bus.bendy, vehicle.bus, vehicle."""
    name = name.removeprefix("moving-")
    while name:
        yield name
        name = name.rpartition(".")[0]


def status_of(attributes: str) -> tuple[str, ...]:
    """The words of ``STATUSES`` that attributes, joined by spaces, tell; attributes of other things say nothing."""
    found = {_STATUS_OF.get(name.rpartition(".")[2]) for name in attributes.split()}
    return tuple(word for word in STATUSES if word in found)


def status_of_class(name: str) -> tuple[str, ...]:
    """What a class name itself tells: SemanticKITTI's ``moving-car`` moves, its ``bicyclist`` is a ridden bicycle."""
    ridden = ("with rider",) if name.removeprefix("moving-") in _RIDDEN else ()
    return (("moving",) if name.startswith("moving-") else ()) + ridden
