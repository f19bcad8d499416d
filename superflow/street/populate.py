"""Puts things where they belong on a street: rows of houses, parked cars, traffic, people, works."""

from __future__ import annotations

import numpy as np

from . import people, scenery, vehicles
from .parts import Model
from .place import PLAIN_PLACE, Place
from .site import PEDESTRIANS, VEHICLE_LABELS, Site
from .street import Street
from .trace import OTHER, ROAD, WALK
from .tracks import Pace, Placed, Track, track_poses

# evaluated things that every scene shows near the vehicle: raw class -> (at least, maker)
QUOTA = {
    9: (6, scenery.make_barrier),
    12: (6, scenery.make_cone),
    14: (5, vehicles.make_bicycle),
    16: (2, vehicles.make_bus),
    17: (4, vehicles.VEHICLES["car"]),
    18: (2, vehicles.VEHICLES["construction"]),
    21: (5, vehicles.make_motorcycle),
    22: (2, vehicles.VEHICLES["trailer"]),
    23: (2, vehicles.VEHICLES["truck"]),
    2: (4, people.make_pedestrian),
}
SAME = {15: 16, 3: 2, 4: 2, 6: 2}  # classes that are merged for evaluation
PARKED = {"car": 0.66, "truck": 0.11, "bus": 0.05, "trailer": 0.07, "construction": 0.03, "motorcycle": 0.08}
DRIVING = {"car": 0.59, "truck": 0.13, "bus": 0.06, "motorcycle": 0.11, "bicycle": 0.11}


def _draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def populate(
    rng, street: Street, ego: Track, placed: list[Placed], seconds: float, place: Place = PLAIN_PLACE
) -> None:
    """Fill ``placed`` (in place). Order is precedence: what comes first keeps its ground."""
    end = ego.along + float(ego.pace.distance(seconds))
    site = Site(rng, street, placed, (max(ego.along - 60, 5.0), min(end + 70, street.length - 5.0)), place)
    for along in np.arange(0.0, street.length, 4.0):  # the lanes stay free of standing things
        site.reserve(along, 0.0, (2.2, street.lane * street.lanes - 0.1))
    _works(site)
    _parked(site)
    _traffic(site, ego, seconds)
    _side_road(site)
    _buildings(site)
    _boundaries(site)
    _furniture(site)
    _plants(site)
    _people(site, seconds)
    if place.rare:
        _fill_quota(site, ego.along - 15, end + 25)
    _grass(site)


def _works(site: Site) -> None:
    """Road works: barriers and cones around machines, workers and lorries."""
    rng, street = site.rng, site.street
    for _ in range(round(min(site.place.works, 1.0)) + site.count(site.place.works)):
        side = rng.choice((-1, 1))
        on_road = rng.random() < 0.5
        along = site.along()
        edge = street.lane * street.lanes
        middle = side * ((edge + street.half) / 2 if on_road else street.half + rng.uniform(3.0, 7.0))
        length = rng.uniform(8, 20)
        front = side * (edge + 0.35) if on_road else middle - side * 2.4
        kind = int(rng.integers(4))
        for x in np.arange(-length / 2, length / 2, 2.6):
            if rng.random() < 0.3:
                site.put(scenery.make_cone(rng), along + x, front, where="any", margin=0.0)
            else:
                turn = rng.normal(0, 0.06) + np.pi * rng.integers(2)
                site.put(scenery.make_barrier(rng, kind), along + x, front, turn, where="any", margin=0.0)
        for x in (-length / 2 - 1, length / 2 + 1):
            for step in range(3):
                site.put(
                    scenery.make_cone(rng),
                    along + x + rng.normal(0, 0.2),
                    front + side * 0.9 * step,
                    where="any",
                )
        _at_work(site, along, middle, side, on_road)


def _at_work(site: Site, along: float, middle: float, side: int, on_road: bool) -> None:
    """A machine, a lorry and workers behind the barriers."""
    rng, where = site.rng, "road" if on_road else "any"
    if not on_road or rng.random() < 0.5:
        machine = vehicles.VEHICLES["construction"](rng)
        turn = rng.uniform(0, 2 * np.pi) * (not on_road)
        site.put(machine, along, middle + side * 0.8, turn, where="any")
    if rng.random() < 0.5:
        name = "truck" if rng.random() < 0.6 else "trailer"
        site.put(vehicles.VEHICLES[name](rng), along + rng.uniform(-6, 6), middle, where=where)
    for _ in range(int(rng.integers(1, 4))):
        worker = people.make_pedestrian(rng, people.WORKER, walking=rng.random() < 0.5)
        x, y = along + rng.uniform(-5, 5), middle + rng.uniform(-1, 1)
        site.put(worker, x, y, rng.uniform(0, 6.28), where="any")


def _parked(site: Site) -> None:
    """Rows of parked vehicles at the curb, and some in lots, drives and on the grass."""
    rng, street = site.rng, site.street
    for side, strip in zip((-1, 1), street.parking):
        density = site.place.parked * rng.uniform(0.35, 0.85)
        along = site.window[0]
        while strip and along < site.window[1]:
            model = vehicles.VEHICLES[_draw(rng, PARKED)](rng)
            low, high = model.bounds()
            length = high[0] - low[0]
            across = side * (street.half - 1.2 + rng.normal(0, 0.06))
            turn = (0.0 if side < 0 else np.pi) + rng.normal(0, 0.03) + (rng.random() < 0.1) * np.pi
            if model.label == 21:
                turn += rng.uniform(0.6, 1.4)
            clear = abs(along + length / 2 - street.junction) > street.side_half + 7 + length / 2
            if clear and rng.random() < density:
                site.put(model, along + length / 2, across, turn, where="road", margin=0.05)
            along += length + rng.uniform(0.7, 2.0)
    for _ in range(site.count(14 * site.place.parked)):
        model = vehicles.VEHICLES[_draw(rng, PARKED)](rng)
        side = int(rng.choice((-1, 1)))
        across = side * (street.half + rng.uniform(2.5, 16.0))
        site.put(model, site.along(), across, rng.choice((0, 0.5, 1, 1.5)) * np.pi + rng.normal(0, 0.1),
                 where="any", margin=0.3)  # fmt: skip


def _traffic(site: Site, ego: Track, seconds: float) -> None:
    """Vehicles in all lanes. All in a lane keep their distance: the ego lane goes at the ego's pace."""
    rng, street = site.rng, site.street
    gap = rng.uniform(9, 24) / site.place.traffic
    for sign in (-1.0, 1.0):
        for lane in range(street.lanes):
            across = sign * (lane + 0.5) * street.lane
            direction = -sign  # right-hand traffic: negative across drives along
            own = abs(across - ego.across) < 0.5
            pace = ego.pace if own else Pace(rng.uniform(3.0, 11.0))
            stopped = not own and rng.random() < 0.15
            along = (
                site.window[0] - direction * (0 if own else pace.speed * seconds * 0.5) + rng.uniform(0, 15)
            )
            stop = site.window[1] + 20
            while along < stop:
                name = _draw(rng, DRIVING)
                rider = name in vehicles.RIDDEN
                model = vehicles.RIDDEN[name](rng, rider=True) if rider else vehicles.VEHICLES[name](rng)
                low, high = model.bounds()
                length = high[0] - low[0]
                middle = along + length / 2
                free = not own or middle - length / 2 > ego.along + 13 or middle + length / 2 < ego.along - 8
                if free and rng.random() < 0.75:
                    turn = 0.0 if direction > 0 else np.pi
                    shift = rng.normal(0, 0.12)
                    speed = Pace(0.0) if stopped else pace
                    track = Track(middle, across + shift, speed, direction, turn=turn, base=0.3 * length)
                    attribute = (
                        "cycle.with_rider" if rider else "vehicle.stopped" if stopped else "vehicle.moving"
                    )
                    site.placed.append(Placed(model, track=track, annotated=True, attribute=attribute))
                along += length + gap * rng.uniform(0.5, 1.6)


def _side_road(site: Site) -> None:
    """Vehicles that wait in the side road."""
    rng, street = site.rng, site.street
    if street.junction < 0:
        return
    for side in (-1, 1):
        across = street.half + rng.uniform(6.5, 9.0)
        for _ in range(int(rng.integers(0, 3))):
            model = vehicles.VEHICLES[_draw(rng, DRIVING)](rng)
            low, high = model.bounds()
            half = (high[0] - low[0]) / 2
            turn = -side * np.pi / 2
            lane = side * street.side_half / 2
            site.put(model, street.junction + lane, side * (across + half), turn, where="road", margin=0.1,
                     attribute="vehicle.stopped" if model.label in VEHICLE_LABELS else "")  # fmt: skip
            across += 2 * half + 1.5


def _buildings(site: Site) -> None:
    rng, street = site.rng, site.street
    for side in (-1, 1):
        along = site.window[0] - 10
        density = site.place.buildings * rng.uniform(0.65, 1.0)
        setback = rng.uniform(*site.place.setback)
        while along < site.window[1] + 10:
            length, depth = rng.uniform(6, 22), rng.uniform(6, 14)
            height = rng.uniform(2.4, 3.6) if rng.random() < 0.2 else rng.uniform(*site.place.storeys)
            if rng.random() < 0.2:
                length, depth = rng.uniform(2.5, 6), rng.uniform(2.5, 5)  # sheds, garages
                height = rng.uniform(1.9, 3.2)
            back = setback + rng.exponential(2.0) * (rng.random() < 0.5)
            if rng.random() < density:
                model = scenery.make_building(rng, length, depth, height)
                across = side * (street.half + 2.0 + back + depth / 2)
                for extra in (0.0, 3.0, 7.0):  # further back where the road is in the way
                    if site.put(model, along + length / 2, across + side * extra, margin=0.2, tilted=False):
                        break
            along += length + (rng.uniform(0, 1.5) if rng.random() < 0.6 else rng.uniform(2, 10))


def _boundaries(site: Site) -> None:
    """Hedges, walls and fences between gardens and the pavement, and between the gardens."""
    rng, street = site.rng, site.street
    for side in (-1, 1):
        along, distance = site.window[0], rng.uniform(2.0, 6.0)
        while along < site.window[1]:
            length = rng.uniform(2.5, 9.0)
            kind = str(rng.choice(("hedge", "wall", "fence")))
            height = rng.uniform(0.5, 2.2)
            if rng.random() < 0.5 * site.place.boundaries:
                across = side * (street.half + distance + rng.normal(0, 0.3))
                turn = np.pi / 2 if rng.random() < 0.15 else rng.normal(0, 0.03)
                site.put(
                    scenery.make_row(rng, kind, length, height), along + length / 2, across, turn, margin=0.0
                )
            along += length + rng.uniform(0.3, 4.0)
            if rng.random() < 0.2:
                distance = rng.uniform(1.5, 9.0)


def _furniture(site: Site) -> None:
    """Street lights, signs, boxes, benches, bins."""
    rng, street = site.rng, site.street
    for side in (-1, 1):
        spacing = rng.uniform(16, 28) / site.place.furniture
        for along in np.arange(site.window[0] + rng.uniform(0, 10), site.window[1], spacing):
            turn = 0.0 if side < 0 else np.pi
            site.put(
                scenery.make_lamp_post(rng), along, side * (street.half + 0.5), turn, where="any", margin=-0.2
            )
    if street.junction > 0:
        for side in (-1, 1):
            for end in (-1, 1):
                along = street.junction + end * (street.side_half + 5.5)
                across = side * (street.half + 0.7)
                site.put(
                    scenery.make_traffic_light(rng), along, across, 0.0 if end < 0 else np.pi, margin=0.0
                )
    for _ in range(site.count(12 * site.place.furniture)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(0.4, 2.0))
        turn = rng.choice((0.0, np.pi)) + rng.normal(0, 0.2)
        site.put(scenery.make_sign(rng), site.along(), across, turn, margin=0.0)
    for _ in range(site.count(22 * site.place.furniture)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(0.6, 10.0))
        turn = rng.choice((0.0, 0.5, 1.0, 1.5)) * np.pi
        site.put(scenery.make_furniture(rng), site.along(), across, turn, margin=0.05)
    for _ in range(site.count(5 * site.place.furniture)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(0.5, 5.0))
        site.put(scenery.make_litter(rng), site.along(), across, rng.uniform(0, 6.28))


def _plants(site: Site) -> None:
    rng, street = site.rng, site.street
    for side in (-1, 1):
        if rng.random() < 0.6 * min(site.place.trees, 1.5):  # an avenue
            for along in np.arange(site.window[0], site.window[1], rng.uniform(7, 14)):
                tree = scenery.make_tree(rng, rng.uniform(3.0, 8.0))
                _plant(site, tree, along + rng.normal(0, 0.5), side * (street.half + rng.uniform(0.6, 1.6)))
    for _ in range(site.count(26 * site.place.trees)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(1.5, 32.0))
        _plant(site, scenery.make_tree(rng, rng.uniform(*site.place.tall)), site.along(), across)
    for _ in range(site.count(50 * site.place.bushes)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(0.8, 25.0))
        site.put(
            scenery.make_bush(rng, rng.uniform(0.3, 2.0)),
            site.along(),
            across,
            rng.uniform(0, 6.28),
            margin=-0.1,
        )


def _grass(site: Site) -> None:
    """Grass of all heights on the verges and the land behind; it needs no ground of its own."""
    rng, street = site.rng, site.street
    for _ in range(site.count(site.place.grass) if site.place.grass > 0 else 0):
        across = rng.choice((-1, 1)) * (street.half + rng.exponential(9.0) + 0.6)
        x, y, heading = (float(v) for v in street.place(site.along(), across))
        if (
            street.layer(ROAD, x, y) > 0.9
            and street.layer(WALK, x, y) > 0.9
            and street.layer(OTHER, x, y) > 0.9
        ):
            pose = street.stand(x, y, heading + rng.uniform(0, 6.28), tilted=True, base=0.5)
            site.placed.append(Placed(scenery.make_grass(rng), pose=pose))


def _plant(site: Site, tree: Model, along: float, across: float) -> None:
    """A tree needs ground for its trunk only; its crown may reach over other things."""
    trunk = Model(tree.label, tree.reflectance, tree.seed, tree.parts[:1])
    site.put(tree, along, across, margin=0.1, footprint=trunk.bounds())


def _people(site: Site, seconds: float) -> None:
    """Pedestrians on the pavement, some across the street; parked bicycles and motorcycles."""
    rng, street = site.rng, site.street
    for _ in range(site.count(18 * site.place.people)):
        side, direction = rng.choice((-1, 1)), rng.choice((-1.0, 1.0))
        across = side * (street.half + rng.uniform(0.7, 4.5))
        model = people.make_pedestrian(rng, walking=True)
        turn = 0.0 if direction > 0 else np.pi
        track = Track(site.along(), across, Pace(rng.uniform(0.7, 1.7)), direction, turn=turn, tilted=False)
        site.placed.append(Placed(model, track=track, annotated=True, attribute="pedestrian.moving"))
    for _ in range(site.count(3 * site.place.people)):  # crossing, where the vehicle is not
        side = rng.choice((-1.0, 1.0))
        model = people.make_pedestrian(rng, walking=True)
        along = (
            street.junction - street.side_half - 3
            if street.junction > 0 and rng.random() < 0.6
            else site.along()
        )
        start = side * (street.half + rng.uniform(-1.0, 3.0))
        track = Track(along + rng.normal(0, 0.7), start, Pace(0.0), drift=-side * rng.uniform(0.8, 1.6),
                      turn=-side * np.pi / 2, tilted=False)  # fmt: skip
        if not _meets(site, track, seconds):
            site.placed.append(Placed(model, track=track, annotated=True, attribute="pedestrian.moving"))
    for _ in range(site.count(14 * site.place.people)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(0.5, 6.0))
        model = people.make_pedestrian(rng, walking=False)
        site.put(model, site.along(), across, rng.uniform(0, 6.28))
    for _ in range(site.count(8 * site.place.people)):
        across = rng.choice((-1, 1)) * (street.half + rng.uniform(0.5, 5.0))
        maker = vehicles.make_bicycle if rng.random() < 0.6 else vehicles.make_motorcycle
        along, turn = site.along(), rng.choice((0.0, 0.5, 1.0)) * np.pi + rng.normal(0, 0.15)
        for step in range(int(rng.integers(1, 4))):
            site.put(maker(rng), along + 0.8 * step, across, turn)


def _meets(site: Site, track: Track, seconds: float) -> bool:
    """Does the track come into the way of a vehicle, the recording one included?"""
    things = [
        thing for thing in site.placed if thing.track is not None and thing.model.label not in PEDESTRIANS
    ]
    tracks = [thing.track for thing in things if thing.track is not None]
    poses = track_poses(site.street, [track, *tracks], np.linspace(0.0, seconds + 0.2, int(seconds * 8) + 2))
    for m, thing in enumerate(things, 1):
        low, high = thing.model.bounds()
        local = np.einsum("tji,tj->ti", poses[:, m, :3, :3], poses[:, 0, :3, 3] - poses[:, m, :3, 3])
        if ((local > low - 0.8) & (local < high + 0.8))[:, :2].all(axis=1).any():
            return True
    return False


def _fill_quota(site: Site, start: float, stop: float) -> None:
    """Add what is too rare between ``start`` and ``stop`` of the street, anywhere that it fits."""
    rng, street = site.rng, site.street
    x, y, _ = street.place(np.arange(start, stop, 2.0), 0.0)
    for label, (least, maker) in QUOTA.items():
        found = 0
        for thing in site.placed:
            if SAME.get(thing.model.label, thing.model.label) == label and thing.pose is not None:
                found += bool(np.hypot(x - thing.pose[0, 3], y - thing.pose[1, 3]).min() < 18.0)
        for _ in range(200):
            if found >= least:
                break
            side = rng.choice((-1, 1))
            across = side * (street.lane * street.lanes + rng.uniform(0.8, 9.0))
            found += site.put(
                maker(rng), rng.uniform(start, stop), across, rng.uniform(0, 2 * np.pi), where="any"
            )
