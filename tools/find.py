"""Scans of a prepared log in which something is true.

    superflow find --index prepared/log "a pedestrian within 15 m of a parked truck"
    superflow find --index prepared/log "at least 3 cars in front of me and no bus" --pictures found
    superflow find --index prepared/log "a moving bicycle left of me" --frames val --json > matches.jsonl
    superflow find --index prepared/log "a truck behind me" --predictions work_dirs/finetune_small

Objects are the log's boxes, else its panoptic instances, or with --predictions what a fine-tuned network sees. One with
fewer than --min-points LiDAR points is perhaps not there: where the answer hangs on it, nobody can tell. Directions are
sectors of 60 degrees in the axes of the vehicle, distances lie over ground between centres. A relation belongs to the
nearest noun before it; brackets end a phrase: "a car within 9 m of (a truck) behind a bus".
docs/agents.md has the words.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.option_values import Range
from superflow.tools.command import command_parser, count_or_none, number_in, run_command

if TYPE_CHECKING:
    from superflow.agents.find import Match
    from superflow.agents.scene import SceneObject


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser("find", __doc__)
    parser.add_argument("query", help='what to find, as in "a pedestrian within 15 m of a parked truck"')
    parser.add_argument("--index", type=Path, required=True, help="folder that `superflow prepare` wrote")
    parser.add_argument("--frames", nargs="+", help="splits, scenes or scene[a:b] (default: every key frame)")
    parser.add_argument(
        "--predictions", type=Path, help="checkpoint or run of a fine-tuned network, to ask it instead"
    )
    parser.add_argument(
        "--min-points", type=count_or_none, default=5, help="LiDAR points that tell an object"
    )
    parser.add_argument(
        "--max-range",
        type=number_in(Range(0, above=True, endless=True)),
        default=math.inf,
        metavar="M",
        help="leave out objects that are farther away; default: none",
    )
    parser.add_argument("--pictures", type=Path, help="folder for a view from above of each match")
    parser.add_argument("--max-pictures", type=count_or_none, default=50, help="no more pictures than these")
    parser.add_argument("--json", action="store_true", help="print each match as a line of JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command("superflow find", lambda: _find(args))


def _find(args: argparse.Namespace) -> int:
    from superflow.agents.find import match, parse_condition, scenes_of
    from superflow.agents.find_picture import write_match
    from superflow.agents.query_text import text_of
    from superflow.datasets.index import LogIndex
    from superflow.progress import LogLines

    condition = parse_condition(args.query)
    index = LogIndex.open(args.index)
    rows = index.rows(args.frames)
    print(f"looking for: {text_of(condition)}", file=sys.stderr)
    numbers = {int(row): i for scene in index.scenes for i, row in enumerate(index.rows([scene]))}
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    looking = LogLines(logging.getLogger(__name__), quiet=True)
    with_points = args.pictures is not None
    scenes = scenes_of(index, rows, checkpoint=args.predictions, points=with_points, progress=looking)
    count, unknown, drawn = 0, 0, 0
    for row, scene in zip(rows, scenes):
        found = match(condition, scene, min_points=args.min_points, max_range_m=args.max_range)
        count, unknown = count + (found.truth is True), unknown + (found.truth is None)
        if not found.truth:
            continue
        number = numbers[int(row)]
        print(_json(found, number) if args.json else _line(found, number), flush=True)
        if args.pictures is not None and drawn < args.max_pictures:
            title = f"{scene.scene}, key frame {number}: {text_of(condition)}"
            print(write_match(found, args.pictures, number, title), file=sys.stderr)
            drawn += 1
    told = f"; of {unknown} more nobody can tell" if unknown else ""
    print(f"{count} of {len(rows)} scans match{told}", file=sys.stderr)
    return 0


def _line(found: Match, number: int) -> str:
    things = "; ".join(map(_words, found.objects)) or "nothing to point at"
    near = f" [{'; '.join(map(_words, found.anchors))}]" if found.anchors else ""
    return f"{found.scene.scene} {number} {found.scene.token}: {things}{near}"


def _words(thing: SceneObject) -> str:
    from superflow.agents.scene_text import kind_text, where_text

    return f"{kind_text(thing)}, {thing.range_m:.1f} m {where_text(thing)}"


def _json(found: Match, number: int) -> str:
    from dataclasses import asdict

    scene = found.scene
    return json.dumps(
        {
            "scene": scene.scene,
            "frame": number,
            "token": scene.token,
            "time_us": scene.time_us,
            "source": scene.source,
            "objects": [asdict(o) for o in found.objects],
            "anchors": [asdict(o) for o in found.anchors],
        }
    )


if __name__ == "__main__":
    sys.exit(main())
