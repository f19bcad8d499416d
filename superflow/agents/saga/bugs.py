"""Wrong programs that were written by hand: mistakes that people make and no operator does.

Each is the reference with one passage read differently; passages as `problem.Problem.source` has them.
"""

from __future__ import annotations

from collections.abc import Iterator

from .operators import Mutant
from .problem import Problem

BY_HAND = "by hand"  # in place of an operator

# problem, what is wrong, passage, what stands there instead
BUGS = (
    ("count_toward", "bearing not brought into one turn", "(bearing - start_deg) % 360 < 60",
     "start_deg <= bearing < start_deg + 60"),
    ("count_toward", "bearings clockwise", "math.atan2(each.center[1]", "math.atan2(-each.center[1]"),
    ("count_toward", "more than 5 points", "each.points < 5", "each.points <= 5"),
    ("nearest_kind", "distance along x alone", "math.hypot(each.center[0], each.center[1])", "abs(each.center[0])"),
    ("nearest_kind", "the nearest of all, hidden or not, then asked", "each.points >= 5 and distance < best_range",
     "distance < best_range"),
    ("nearest_kind", "sum of both axes", "math.hypot(each.center[0], each.center[1])",
     "abs(each.center[0]) + abs(each.center[1])"),
    ("kinds_by_range", "equally near ones by the alphabet", "sorted(near, key=lambda pair: pair[0])", "sorted(near)"),
    ("kinds_by_range", "each category once", "near.append((distance, each.category))",
     "near += [(distance, each.category)] * (each.category not in [kind for _, kind in near])"),
    ("closest_pair", "neighbours in the list alone", "scene.objects[i + 1:]", "scene.objects[i + 1:i + 2]"),
    ("closest_pair", "distance in space", "math.hypot(first.center[0] - second.center[0], ",
     "math.hypot(first.center[2] - second.center[2], first.center[0] - second.center[0], "),
    ("closest_pair", "two at one place taken for one", "distance < best", "0 < distance < best"),
    ("widest_gap", "not around the back", "bearings[0] + 360 - bearings[-1]", "0.0"),
    ("widest_gap", "one object is no gap", "return 360.0", "return 0.0"),
    ("is_crowded", "only the ones that come later", "i != k", "i < k"),
    ("is_crowded", "over all objects together", "        others = 0\n", "        others = 0 if i == 0 else others\n"),
    ("is_crowded", "counts itself", "i != k and distance <= metres", "distance <= metres"),
    ("count_in_strip", "whole width to either side", "width / 2", "width"),
    ("count_in_strip", "left half alone", "abs(y) <= width / 2", "0 <= y <= width / 2"),
    ("count_in_strip", "distance instead of x", "0 < x <= metres", "0 < x and math.hypot(x, y) <= metres"),
    ("time_to_near", "as if it came straight on", "(closing - math.sqrt(inside)) / square",
     "(math.hypot(x, y) - near_m) / math.hypot(u, v)"),
    ("time_to_near", "leaves again", "closing - math.sqrt(inside)", "closing + math.sqrt(inside)"),
    ("time_to_near", "when it is closest", "(closing - math.sqrt(inside))", "closing"),
    ("time_to_near", "already near is never", "times.append(0.0)", "pass"),
    ("count_oncoming", "by the heading of its box", "math.atan2(v, -u)",
     "math.atan2(math.sin(each.yaw), -math.cos(each.yaw))"),
    ("count_oncoming", "by the forward speed", "math.hypot(u, v) >= 1", "-u >= 1"),
    ("count_oncoming", "to one side", "abs(off) <= tolerance_deg", "off <= tolerance_deg"),
    ("moving_share", "unknown stands", "moving / known if known else None",
     "moving / len(scene.objects) if known else None"),
    ("moving_share", "forward speed alone", "math.hypot(each.velocity[0], each.velocity[1])", "abs(each.velocity[0])"),
    ("fastest_kind", "of equally fast ones the last", "speed > best_speed", "speed >= best_speed and speed > 0"),
    ("fastest_kind", "whatever its distance", " or math.hypot(each.center[0], each.center[1]) > metres", ""),
    ("fastest_kind", "known words instead of speeds", "each.velocity is None",
     "(each.velocity is None or 'parked' in each.status)"),
    ("closing_speed", "speed instead of its part", "-(x * each.velocity[0] + y * each.velocity[1]) / distance",
     "math.hypot(each.velocity[0], each.velocity[1])"),
    ("closing_speed", "the nearest of all, known or not",
     "each.velocity is None or distance < 0.1 or distance >= nearest:\n            continue\n"
     "        nearest = distance",
     "distance < 0.1 or distance >= nearest:\n            continue\n        nearest = distance\n"
     "        if each.velocity is None:\n            continue"),
    ("range_after", "unknown velocity is left out", "each.points < 5", "each.points < 5 or each.velocity is None"),
    ("range_after", "speed taken off the range",
     "math.hypot(each.center[0] + seconds * u, each.center[1] + seconds * v)",
     "math.hypot(each.center[0], each.center[1]) - seconds * math.hypot(u, v)"),
    ("stops_in_time", "no reaction", "speed * reaction_s + ", ""),
    ("stops_in_time", "to the centre", "x - each.size[0] / 2", "x"),
    ("stops_in_time", "by the width", "each.size[0] / 2", "each.size[1] / 2"),
    ("stops_in_time", "the last one counts", "free = min(free, x - each.size[0] / 2)", "free = x - each.size[0] / 2"),
    ("boxes_over", "boxes stand along the axes", "math.cos(each.yaw), math.sin(each.yaw)", "1.0, 0.0"),
    ("boxes_over", "turned the other way", "c * dx + s * dy, c * dy - s * dx", "c * dx - s * dy, c * dy + s * dx"),
    ("boxes_over", "a circle instead of a box",
     "abs(along) <= each.size[0] / 2 and abs(across) <= each.size[1] / 2",
     "math.hypot(along, across) <= each.size[0] / 2"),
    ("heading_spread", "largest less smallest", "max(spread, abs(turn))",
     "max(spread, min(180.0, math.degrees(max(yaws) - min(yaws))))"),
    ("heading_spread", "front and back are one", "max(spread, abs(turn))",
     "max(spread, min(abs(turn), 180 - abs(turn)))"),
    ("heading_spread", "one object has no spread", "return None", "return 0.0"),
    ("count_facing", "by the bearing of the vehicle from behind", "math.atan2(-each.center[1], -each.center[0])",
     "math.atan2(each.center[1], each.center[0])"),
    ("count_facing", "tolerance on both sides together", "abs(turn) <= tolerance_deg",
     "abs(turn) <= tolerance_deg / 2"),
    ("hit_at_height", "standing on the ground", "each.center[2] - half <= height_m <= each.center[2] + half",
     "0 <= height_m <= 2 * half"),
    ("hit_at_height", "by the width", "each.size[2] / 2", "each.size[1] / 2"),
    ("count_hidden", "what is farther hides, too", "nearer >= distance", "other is each"),
    ("count_hidden", "counts one as often as it is hidden", "                break", "                pass"),
    ("count_hidden", "no jump behind the vehicle", "abs((turn + math.pi) % (2 * math.pi) - math.pi)", "abs(turn)"),
    ("ground_taken", "of the side", "each.size[0] * each.size[1]", "each.size[0] * each.size[2]"),
    ("ground_taken", "of a circle around it", "each.size[0] * each.size[1]",
     "math.pi / 4 * (each.size[0] ** 2 + each.size[1] ** 2)"),
    ("ground_taken", "one size counts once", "area += each.size[0] * each.size[1]",
     "area = max(area, each.size[0] * each.size[1])"),
    ("commonest_kind", "of equally common ones the last", "count > most", "count >= most"),
    ("commonest_kind", "equally common ones by the alphabet", "counts.items()", "sorted(counts.items())"),
    ("commonest_kind", "the kind with most points", "counts.get(each.category, 0) + 1",
     "counts.get(each.category, 0) + each.points"),
    ("commonest_kind", "one alone is not common", "best, most = (None, 0)", "best, most = (None, 1)"),
    ("closing_pairs", "neighbours in the list alone", "scene.objects[i + 1:]", "scene.objects[i + 1:i + 2]"),
    ("closing_pairs", "the second stands still", "(second.velocity[0] - first.velocity[0], "
     "second.velocity[1] - first.velocity[1])", "(-first.velocity[0], -first.velocity[1])"),
    ("closing_pairs", "nearer to the vehicle instead", "dx * du + dy * dv < 0",
     "second.center[0] * second.velocity[0] + second.center[1] * second.velocity[1] < 0"),
    ("closing_pairs", "what keeps its distance comes closer", "dx * du + dy * dv < 0", "dx * du + dy * dv <= 0"),
)  # fmt: skip


def bugs(problem: Problem) -> Iterator[Mutant]:
    """The programs that were written by hand for a problem."""
    for name, what, passage, instead in BUGS:
        if name == problem.name:
            yield Mutant(BY_HAND, what, problem.source.replace(passage, instead))
