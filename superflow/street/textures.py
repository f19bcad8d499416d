"""Colour of every surface at a point: bricks and windows, paint, leaves, asphalt, lane marks ... Compiled."""

from __future__ import annotations

import math

from . import classes
from .compiled import jit_inline, jit_part
from .noise import fractal2, grain, hash01, noise2
from .trace import ACROSS, ALONG, OTHER, ROAD, SIDE, WALK, ground_layer

# materials of primitives
(PLAIN, FACADE, ROOF, PAINT, GLASS, TYRE, LAMP, LEAF, BARK, BANDS, DIAGONAL, BUS, CONCRETE, BRICKS, CARGO,
 CLOTH, SIGN, FENCE, TRACK) = range(19)  # fmt: skip

FOUNDATION = 1.5  # m that walls of buildings reach below their ground floor

# kinds of ground: rows of the style's reflectances and colours
ASPHALT, MARK, SIDEWALK, TERRAIN, PAVED = range(5)
PARKING_GAP = 0.3, 5.0  # m beside the lanes, and from a side road, that belong to the road

# ground_style: [0] curb height [m], [1] seed, then as named here
STYLE_REFLECTANCE = 2  # 5 values
STYLE_COLOR = 7  # 5 x RGB
STYLE_LANE, STYLE_LANES, STYLE_HALF, STYLE_DASH, STYLE_YELLOW = 22, 23, 24, 25, 26
STYLE_WALK, STYLE_TERRAIN, STYLE_PAVED = 27, 28, 29  # pattern numbers
STYLE_JUNCTION, STYLE_SIDE_HALF = 30, 31  # where the side road crosses, and half its width
STYLE_SIZE = 32


@jit_part
def _wrap(value, period):
    """``value`` modulo ``period``, in [0, period)."""
    return value - period * math.floor(value / period)


@jit_part
def _fade(footprint, size):
    """1 where a pattern of this size is finer than nothing, 0 where a pixel covers several of its periods."""
    return min(max(1.5 - 2.0 * footprint / size, 0.0), 1.0)


@jit_inline
def _is_mark(style, along, across, side):
    """Is there lane paint on this point of the road?"""
    half, side_half = style[STYLE_HALF], style[STYLE_SIDE_HALF]
    from_junction = abs(along - style[STYLE_JUNCTION]) - side_half
    if side < 90.0:
        if 1.5 < from_junction < 4.5 and abs(across) < half - 0.3:  # zebra over the main road
            return _wrap(across + 100.0, 1.2) < 0.6
        if 4.9 < from_junction < 5.3 and abs(across) < half - 0.2:
            return True
        beyond = abs(across) - half
        if 1.5 < beyond < 4.5 and abs(side) < side_half - 0.3:  # zebra over the side road
            return _wrap(side + 100.0, 1.2) < 0.6
        if from_junction < 1.0:
            return beyond > 6.0 and abs(side) < 0.07
    if abs(across) > half:
        return False
    dashed = _wrap(along + 1000.0, 3.0 * style[STYLE_DASH]) < style[STYLE_DASH]
    if style[STYLE_YELLOW] > 0.5:
        if 0.07 < abs(across) < 0.2:
            return True
    elif abs(across) < 0.08 and dashed:
        return True
    lanes = int(style[STYLE_LANES])
    for lane in range(1, lanes + 1):
        offset = abs(abs(across) - lane * style[STYLE_LANE])
        if offset < 0.07 and (dashed or lane == lanes):
            return True
    return False


@jit_inline
def ground_class(world, x, y):
    """Kind of the ground, ASPHALT, MARK, SIDEWALK, TERRAIN or PAVED, and raw class."""
    if ground_layer(world, ROAD, x, y) < 0.0:
        style = world.ground_style
        along = ground_layer(world, ALONG, x, y)
        across = ground_layer(world, ACROSS, x, y)
        side = ground_layer(world, SIDE, x, y)
        # what is paved beside the lanes and is no side road: strips at the curb, lots, drives
        parking = abs(across) > style[STYLE_LANES] * style[STYLE_LANE] + PARKING_GAP[0]
        parking &= abs(side) > style[STYLE_SIDE_HALF] + PARKING_GAP[1]
        label = classes.PARKING if parking else classes.ROAD
        return (MARK if _is_mark(style, along, across, side) else ASPHALT), label
    if ground_layer(world, OTHER, x, y) < 0.0:
        return PAVED, classes.OTHER_FLAT
    if ground_layer(world, WALK, x, y) < 0.0:
        return SIDEWALK, classes.SIDEWALK
    return TERRAIN, classes.TERRAIN


@jit_inline
def ground_color(world, kind, x, y, footprint, out):
    """Write the linear RGB of the ground at (x, y) into ``out`` (3,)."""
    style = world.ground_style
    seed = int(style[1])
    base = STYLE_COLOR + 3 * kind
    value = 1.0
    if kind in (ASPHALT, MARK):
        value = 0.75 + 0.5 * fractal2(0.35 * x, 0.35 * y, seed)
        fine = _fade(footprint, 0.05)
        value += 0.35 * fine * (grain(x * 40, y * 40, 0.0, seed) - 0.5)
        across = ground_layer(world, ACROSS, x, y)
        lane = style[STYLE_LANE]
        wheel = abs(abs(_wrap(abs(across), lane) - 0.5 * lane) - 0.8)
        value *= 1.0 - 0.18 * max(0.0, 1.0 - wheel / 0.35)
        if kind == ASPHALT and noise2(0.11 * x, 0.11 * y, seed + 7) > 0.72:
            value *= 0.72  # patches of newer asphalt
        if kind == MARK:
            value = 0.8 + 0.4 * noise2(3 * x, 3 * y, seed)
    elif kind == SIDEWALK:
        u, v = ground_layer(world, ALONG, x, y), ground_layer(world, ACROSS, x, y)
        size = 0.6 if style[STYLE_WALK] < 1 else (1.5 if style[STYLE_WALK] < 2 else 0.4)
        if style[STYLE_WALK] >= 2:
            u += 0.5 * size * math.floor(v / size)
        i, j = math.floor(u / size), math.floor(v / size)
        joint = min(min(u / size - i, v / size - j) * size, min(i + 1 - u / size, j + 1 - v / size) * size)
        value = 0.9 + 0.25 * (hash01(int(i), int(j), 0, seed) - 0.5) + 0.15 * (noise2(x, y, seed) - 0.5)
        if joint < 0.03:
            value *= 1.0 - 0.5 * _fade(footprint, 0.08)
    elif kind == TERRAIN:
        patch = fractal2(0.25 * x, 0.25 * y, seed)
        blade = _fade(footprint, 0.12)
        value = 0.55 + 0.7 * patch + 0.9 * blade * (grain(x * 14, y * 14, 0.0, seed) - 0.5)
        value += 0.3 * (noise2(4 * x, 4 * y, seed + 5) - 0.5)
        soil = min(max((fractal2(0.18 * x + 31.0, 0.18 * y, seed + 3) - 0.52) * 7.0, 0.0), 1.0)
        if style[STYLE_TERRAIN] < 1:
            soil *= 0.5
        out[0] = value * ((1 - soil) * style[base] + soil * 0.26)
        out[1] = value * ((1 - soil) * style[base + 1] + soil * 0.19)
        out[2] = value * ((1 - soil) * style[base + 2] + soil * 0.11)
        return
    else:
        u, v = ground_layer(world, ALONG, x, y), ground_layer(world, ACROSS, x, y)
        length = 0.22 if style[STYLE_PAVED] < 1 else 0.45
        j = math.floor(v / 0.22)
        u += 0.5 * length * (j - 2.0 * math.floor(0.5 * j))
        i = math.floor(u / length)
        value = 0.85 + 0.5 * (hash01(int(i), int(j), 1, seed) - 0.5)
        joint = min(u / length - i, v / 0.22 - j)
        if joint < 0.14:
            value *= 1.0 - 0.55 * _fade(footprint, 0.15)
        value += 0.3 * (noise2(0.8 * x, 0.8 * y, seed) - 0.5)
    for k in range(3):
        out[k] = value * style[base + k]


@jit_part
def _facade(u, height, seed, footprint, first, second, out):
    """Bricks, plaster, panels or glass with rows of windows. Returns the gloss: window panes reflect the sky."""
    kind = int(hash01(seed, 1, 0, 5) * 4.0)
    storey = 2.8 + hash01(seed, 2, 0, 5)
    width = (1.4 if kind == 3 else 2.0) + 1.6 * hash01(seed, 3, 0, 5)
    i, j = math.floor(u / width), math.floor(height / storey)
    a, b = u / width - i, height / storey - j
    left = 0.06 if kind == 3 else 0.2 + 0.1 * hash01(seed, 4, 0, 5)
    low = 0.08 if kind == 3 else 0.3
    if j == 0 and hash01(seed, 6, 0, 5) < 0.6:  # shop fronts and doors
        left, low = 0.08, 0.02
        if hash01(int(i), 7, 0, seed) < 0.3:
            left = 0.3
    margin = min(min(a - left, 1.0 - left - a) * width, min(b - low, 0.86 - b) * storey)
    if margin > 0.0 and hash01(int(i), int(j), 8, seed) < 0.93:
        if margin < 0.09:  # frame
            for k in range(3):
                out[k] = 0.75 * second[k] + 0.15
            return 0.0
        light = 0.04 + 0.16 * hash01(int(i), int(j), 9, seed)
        out[0], out[1], out[2] = light, light * 1.1, light * 1.3
        if hash01(int(i), int(j), 10, seed) < 0.25 and b > 0.5:  # curtains
            out[0], out[1], out[2] = 0.45, 0.42, 0.36
        return 0.45
    value = 0.9 + 0.25 * (noise2(0.7 * u, 0.7 * height, seed) - 0.5)
    if kind == 0 or kind == 1:  # bricks
        row = math.floor(height / 0.16)
        shift = u / 0.44 + 0.5 * (row - 2.0 * math.floor(0.5 * row))
        column = math.floor(shift)
        value *= 0.85 + 0.4 * hash01(int(column), int(row), 11, seed)
        if height / 0.16 - row < 0.16 or shift - column < 0.07:
            value *= 1.0 + 0.5 * _fade(footprint, 0.16)
    elif kind == 2 and (height / storey - j < 0.05 or abs(a) < 0.015):  # panels
        value *= 0.6
    for k in range(3):
        out[k] = value * first[k]
    return 0.0


@jit_part
def _bands(world, p, material, local, axis, footprint, out):
    """Materials made of two colours in a pattern; returns the gloss."""
    first, second, half = world.color[p, 0], world.color[p, 1], world.half[p]
    x, y, z = local[0], local[1], local[2]
    share = 0.0  # of the second colour
    gloss = 0.05
    if material == BANDS:  # rings around an upright thing
        share = 1.0 if _wrap((z + half[2]) / (2 * half[2]) * 3.0 + 0.5, 1.5) - 0.75 > 0.0 else 0.0
    elif material == DIAGONAL:
        share = 1.0 if _wrap(x + y + z + 60.0, 0.6) > 0.3 else 0.0
    elif material == SIGN:
        r = max(abs(x) / half[0], abs(y) / half[1], 0.0)
        if r > 0.8 or noise2(9.0 * x / half[0] * 0.5, 9.0 * y / half[1] * 0.5, world.seed[p]) > 0.66:
            share = 1.0
    elif material == FENCE:
        u = x if axis == 1 else y
        share = 1.0 if _wrap(u + 100.0, 0.16) > 0.11 else 0.0
        share *= _fade(footprint, 0.16)
    elif material == CARGO:  # ribs, a stripe and the red-white rear marking
        u = x if axis == 1 else y
        rib = 0.12 * _fade(footprint, 0.5) if _wrap(u + 100.0, 0.5) < 0.1 else 0.0
        share = rib
        h = (z + half[2]) / (2 * half[2])
        if axis == 1 and abs(x) < 0.55 * half[0] and 0.35 < h < 0.7:
            share = 1.0 if noise2(1.7 * x, 2.4 * z, world.seed[p]) > 0.45 else rib
    elif material == TRACK:
        share = 0.5 if _wrap(x + 100.0, 0.2) > 0.12 else 0.0
    for k in range(3):
        out[k] = (1.0 - share) * first[k] + share * second[k]
    return gloss


@jit_part
def _bus(world, p, local, axis, out):
    """Body with a band of windows, a coloured stripe and a destination board in front; returns the gloss."""
    half, first, second = world.half[p], world.color[p, 0], world.color[p, 1]
    h = (local[2] + half[2]) / (2 * half[2])
    u = local[0] if axis == 1 else local[1]
    glass = axis != 2 and 0.42 < h < 0.8 and _wrap(u + 100.0, 1.35) > 0.12
    if axis == 0:
        glass = 0.3 < h < 0.8 and abs(u) < 0.88 * half[1]
        if local[0] > 0 and 0.84 < h < 0.95 and abs(u) < 0.6 * half[1]:
            lit = noise2(u * 9.0, h * 60.0, world.seed[p]) > 0.5
            out[0], out[1], out[2] = (0.95, 0.55, 0.05) if lit else (0.02, 0.02, 0.02)
            return 0.0
    if axis == 1 and abs(abs(local[0] - 0.3 * half[0]) - 0.35) < 0.33 and 0.04 < h < 0.8:
        glass = True  # doors
    if glass:
        out[0], out[1], out[2] = 0.02, 0.025, 0.03
        return 0.5
    stripe = 0.28 < h < 0.36 or (axis == 1 and local[0] < -0.55 * half[0] + 1.2 * h)
    for k in range(3):
        out[k] = second[k] if stripe else first[k]
    return 0.25


@jit_inline
def primitive_color(world, p, axis, local, footprint, out):
    """Write the linear RGB of primitive p at metric ``local`` (3,) into ``out``; returns the gloss 0 .. 1."""
    material = world.material[p]
    first, second, half, seed = world.color[p, 0], world.color[p, 1], world.half[p], world.seed[p]
    x, y, z = local[0], local[1], local[2]
    value, gloss = 1.0, 0.0
    if material == FACADE and axis != 2:
        return _facade(
            (x if axis == 1 else y) + 50.0, z + half[2] - FOUNDATION, seed, footprint, first, second, out
        )
    if material == BUS:
        return _bus(world, p, local, axis, out)
    if material in (BANDS, DIAGONAL, SIGN, FENCE, CARGO, TRACK):
        return _bands(world, p, material, local, axis, footprint, out)
    if material in (ROOF, FACADE):
        row = math.floor(y / 0.3)
        value = 0.8 + 0.4 * hash01(math.floor(x / 0.3), int(row), 0, seed) * _fade(footprint, 0.3)
    elif material == PAINT:
        gloss = 0.22
        if abs(z + 0.1) < 0.012 and axis == 1:  # seam
            value = 0.6
    elif material == GLASS:
        gloss = 0.5
    elif material == TYRE:
        r = math.sqrt(x * x + y * y) / half[0]
        if r < 0.62:  # hub with spokes
            turn = math.atan2(y, x) * 0.7957747154594768
            bright = 0.5 if turn - math.floor(turn) < 0.6 and r > 0.15 else 0.15
            out[0], out[1], out[2] = bright, bright, bright
            return 0.1
    elif material == LEAF:
        value = 0.7 + 0.6 * grain(x / 0.07, y / 0.07, z / 0.07, seed)
        mix = grain(x / 0.6, y / 0.6, z / 0.6, seed + 1) * 0.8
        for k in range(3):
            out[k] = value * ((1.0 - mix) * first[k] + mix * second[k])
        return 0.0
    elif material == BARK:
        value = 0.6 + 0.8 * noise2(math.atan2(y, x) * 6.0, z * 3.0, seed)
    elif material == CONCRETE:
        value = 0.8 + 0.4 * fractal2(1.3 * (x + y), 1.3 * z, seed)
    elif material == BRICKS:
        u = x if axis == 1 else y
        row = math.floor(z / 0.14)
        column = u / 0.4 + 0.5 * (row - 2.0 * math.floor(0.5 * row))
        value = 0.75 + 0.5 * hash01(math.floor(column), int(row), 0, seed)
        if z / 0.14 - row < 0.15 or column - math.floor(column) < 0.07:
            value *= 1.0 + 0.5 * _fade(footprint, 0.14)
    elif material == CLOTH:
        value = 0.75 + 0.5 * noise2(x * 9.0 + y * 7.0, z * 7.0, seed)
    elif material == PLAIN:
        value = 0.9 + 0.2 * noise2(2.0 * (x + y), 2.0 * z, seed)
    for k in range(3):
        out[k] = value * first[k]
    return gloss
