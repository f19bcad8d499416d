"""What scenes are furnished by, compiled: the nearest point of a course, the ground's layers, things that stand on it.

A scene asks for thousands of single places, at each of which array operations would cost far more than their work. The
order of the operations decides the bytes of a drive.
"""

from __future__ import annotations

import math

import numpy as np

from .compiled import jit, jit_inline
from .trace import CURB_WIDTH, HEIGHT, ROAD

_RUN = 16  # rows of a course that are looked at before any are passed over


@jit
def nearest_rows(course, x, y, step):
    """(N,) int64 row of the course's (S, 2+) point nearest to each of x, y (N,); points are at most ``step`` apart.

    A point at distance d has none at distance b within (d - b) / step rows, so most are never looked at. Quick where
    neighbours in x, y lie near each other: a search starts at the answer before.
    """
    rows = np.empty(len(x), dtype=np.int64)
    found, last = 0, len(course) - 1
    for n in range(len(x)):
        start = found
        dx, dy = x[n] - course[start, 0], y[n] - course[start, 1]
        best = dx * dx + dy * dy
        for way in (1, -1):
            row = start + way
            while 0 <= row <= last:
                stop = min(max(row + way * _RUN, -1), last + 1)
                square = best
                while row != stop:
                    dx, dy = x[n] - course[row, 0], y[n] - course[row, 1]
                    square = dx * dx + dy * dy
                    if square < best:
                        best, found = square, row
                    row += way
                # a hair less, so that rounding leaves none out
                row += way * max(0, int((math.sqrt(square) - math.sqrt(best)) / step - 1e-6) - 1)
        rows[n] = found
    return rows


@jit_inline
def _layer(ground, x0, y0, step, number, x, y):
    """Bilinear value of a layer, that of the edge outside."""
    u = min(max((x - x0) / step, 0.0), ground.shape[1] - 1.001)
    v = min(max((y - y0) / step, 0.0), ground.shape[0] - 1.001)
    i, j = int(u), int(v)
    u, v = u - i, v - j
    low = ground[j, i, number] * (1.0 - u) + ground[j, i + 1, number] * u
    high = ground[j + 1, i, number] * (1.0 - u) + ground[j + 1, i + 1, number] * u
    return low * (1.0 - v) + high * v


@jit
def layer_at(ground, origin, step, number, x, y):
    """(N,) bilinear values of a layer of the ground at world x, y (N,)."""
    values = np.empty(len(x))
    for n in range(len(x)):
        values[n] = _layer(ground, origin[0], origin[1], step, number, x[n], y[n])
    return values


@jit_inline
def _unit(x, y, z):
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@jit_inline
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@jit
def stand_at(ground, origin, step, curb, x, y, cos, sin, tilted, base):
    """(N, 4, 4) poses of things that stand on the ground; arguments (N,), see ``Street.stand``."""
    poses = np.zeros((len(x), 4, 4))
    x0, y0 = origin[0], origin[1]
    for n in range(len(x)):
        px, py, c, s = x[n], y[n], cos[n], sin[n]
        height = _layer(ground, x0, y0, step, HEIGHT, px, py)
        rise = min(max(_layer(ground, x0, y0, step, ROAD, px, py) / CURB_WIDTH, 0.0), 1.0)
        slope, lean, bridged = 0.0, 0.0, 0.0
        if tilted[n]:
            b = base[n]
            front = _layer(ground, x0, y0, step, HEIGHT, px + b * c, py + b * s)
            back = _layer(ground, x0, y0, step, HEIGHT, px - b * c, py - b * s)
            over = _layer(ground, x0, y0, step, HEIGHT, px - 0.8 * s, py + 0.8 * c)
            under = _layer(ground, x0, y0, step, HEIGHT, px + 0.8 * s, py - 0.8 * c)
            slope, lean = (front - back) / (2 * b), (over - under) / 1.6
            bridged = (front + back) / 2 - height
        ahead = _unit(c, s, slope)
        turned = _cross(ahead, (-s, c, lean))
        up = _unit(turned[0], turned[1], turned[2])
        aside = _cross(up, ahead)
        for k in range(3):
            poses[n, k, 0], poses[n, k, 1], poses[n, k, 2] = ahead[k], aside[k], up[k]
        poses[n, 0, 3], poses[n, 1, 3], poses[n, 2, 3] = px, py, height + rise * curb + bridged
        poses[n, 3, 3] = 1.0
    return poses
