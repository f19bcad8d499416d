"""Raw classes of a made street's points: those of nuScenes-lidarseg, and finer ones below their names."""

from __future__ import annotations

import numpy as np

# row = raw class index of nuScenes-lidarseg
CATEGORIES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child",
    "human.pedestrian.construction_worker", "human.pedestrian.personal_mobility", "human.pedestrian.police_officer",
    "human.pedestrian.stroller", "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack",
    "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction",
    "vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer",
    "vehicle.truck", "flat.driveable_surface", "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade",
    "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
# what points are told apart by beside: a name without its last word is the one above that they have in nuScenes
FINER_CATEGORIES = (
    *CATEGORIES,
    "flat.driveable_surface.parking", "static.manmade.building", "static.manmade.wall", "static.manmade.fence",
    "static.manmade.pole", "static.manmade.traffic_sign", "static.manmade.traffic_light", "static.vegetation.trunk",
    "vehicle.bicycle.rider", "vehicle.motorcycle.rider",
)  # fmt: skip
ROAD, OTHER_FLAT, SIDEWALK, TERRAIN, MANMADE, VEGETATION = 24, 25, 26, 27, 28, 30
PARKING, BUILDING, WALL, FENCE, POLE, TRAFFIC_SIGN, TRAFFIC_LIGHT, TRUNK = range(32, 40)
BICYCLE_RIDER, MOTORCYCLE_RIDER = 40, 41

# (256,) uint8: the class in nuScenes of a finer one; others are their own
COARSE = np.arange(256, dtype=np.uint8)
for _number, _name in enumerate(FINER_CATEGORIES[len(CATEGORIES) :], len(CATEGORIES)):
    COARSE[_number] = CATEGORIES.index(_name.rpartition(".")[0])
