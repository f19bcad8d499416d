"""Put both servers under load on this machine, kill them, and count what came of each request.

    superflow serve-check                                  the model of `superflow ask`, 1, 4 and 16 clients, 20 kills
    superflow serve-check --kills 0 --clients 4 --requests 32
    superflow serve-check --model vlm --index work_dirs/prepared --features float32 --json check.json

It starts `superflow serve` on a free port and asks it questions whose answers one process has given before: another
answer, none in time, or two to one request end it with exit code 1. Then it counts how many answers features in
bfloat16 change. Times are those of this machine while everything shares its cores: they say that it holds, not how
fast it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.benchmark.markdown import table_lines
from superflow.errors import InputError, require
from superflow.files.writes import write_json
from superflow.option_values import Range
from superflow.tools.command import command_parser, count, count_or_none, number_in, run_command, seed
from superflow.tools.progress_bar import progress_bar
from superflow.tools.serve import add_model_arguments, model_of

if TYPE_CHECKING:
    from superflow.agents.serving.flips import Flips
    from superflow.agents.serving.load import Level
    from superflow.agents.serving.visitor import End, Question, Visitor

KILLERS = 4  # clients that ask while servers are killed
PAIRS = 24  # questions that are asked again and again


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("serve-check", __doc__)
    add_model_arguments(parser)
    parser.add_argument("--clients", type=count, nargs="+", default=[1, 4, 16], help="that ask at once")
    parser.add_argument("--requests", type=count, default=64, help="answers at each number")
    parser.add_argument("--places", type=count, default=8, help="of each server")
    parser.add_argument(
        "--kills",
        type=count_or_none,
        default=20,
        help="of the servers by turns, under load",
    )
    parser.add_argument(
        "--questions",
        type=count_or_none,
        default=300,
        help="in bfloat16 against float32",
    )
    parser.add_argument(
        "--patience",
        type=number_in(Range(0, above=True)),
        default=180.0,
        help="for an answer, or a server [s]",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the questions")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when every request ended as it must, 1 when one did not, 2 when the input cannot be used."""
    args = parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported
    return run_command("superflow serve-check", lambda: _check(args))


def _check(args: argparse.Namespace) -> int:
    require("fastapi", "agents")
    require("transformers", "agents").utils.logging.disable_progress_bar()
    from superflow.agents.serving.flips import one_process
    from superflow.agents.serving.load import kinds, level

    model, index = model_of(args)
    index = index or args.run / "prepared"  # that it is not there is said when it is opened
    alone = one_process(model, index)
    questions = alone.questions(PAIRS, args.seed, args.features)
    wrong: list[str] = []
    levels: list[Level] = []
    parts: list[tuple[str, list[End]]] = []
    with _served(args, model, index) as visitor:
        for clients in args.clients:
            levels.append(level(visitor, questions, clients, args.requests))
            wrong += levels[-1].faults
        print(_levels(levels, args), flush=True)
        if args.kills:
            parts = _killed(visitor, questions, args, wrong)
        health = visitor.get("/health")
        if held := health["inside"] + health["perception"]["inside"]:
            wrong.append(f"{held} requests are still inside after all has ended")
    with progress_bar() as show:
        flips = alone.flips(args.questions, args.seed, show) if args.questions else None
    if flips is not None:
        print(_flips(flips))
    print(f"\n{len(wrong)} faults" + "".join(f"\n  {fault}" for fault in wrong[:20]))
    if args.json:
        command = " ".join(["superflow", "serve-check", *sys.argv[1:]])
        killed = [{"killed": of, **kinds(ends)} for of, ends in parts]
        figures = {"command": command, "levels": [asdict(each) for each in levels], "kills": killed}
        write_json(args.json, {**figures, "bfloat16": flips and asdict(flips), "faults": wrong})
    return 1 if wrong else 0


def _killed(
    visitor: Visitor, questions: Sequence[Question], args: argparse.Namespace, wrong: list[str]
) -> list[tuple[str, list[End]]]:
    """How requests ended while the servers were killed, see `load.kills`; what must not be goes to ``wrong``."""
    from superflow.agents.serving.load import broken_while, faults, kills

    parts = kills(
        visitor, questions, clients=KILLERS, count=args.kills, within_s=args.patience,
        told=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )  # fmt: skip
    wrong += faults([end for _, ends in parts for end in ends])
    if broken := broken_while(parts, "perception"):
        wrong.append(f"{broken} connections of the language server broke off as the other was killed")
    print(_kills(parts, args.kills), flush=True)
    return parts


@contextmanager
def _served(args: argparse.Namespace, model: Path, index: Path) -> Iterator[Visitor]:
    """`superflow serve` on a free port, until the block ends."""
    from superflow.agents.serving.flips import ANSWER_TOKENS
    from superflow.agents.serving.keeper import HELD, free_port
    from superflow.agents.serving.load import well
    from superflow.agents.serving.visitor import Visitor

    port = free_port("127.0.0.1")
    command = [
        sys.executable,
        "-m",
        "superflow.tools.main",
        "serve",
        "--model",
        str(model),
        "--index",
        str(index),
    ]
    options = ["--port", str(port), "--places", str(args.places), "--features", args.features]
    with tempfile.TemporaryFile("w+") as said:
        keeper = subprocess.Popen(
            [*command, *options, "--timeout", str(args.patience), HELD],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        visitor = Visitor(port, model.resolve().name, patience_s=args.patience, answer_tokens=ANSWER_TOKENS)
        try:
            well(visitor, args.patience)
            yield visitor
        except InputError:
            said.seek(0)
            print(said.read()[-2000:], file=sys.stderr)
            raise
        finally:
            keeper.terminate()
            keeper.wait()


def _levels(levels: list[Level], args: argparse.Namespace) -> str:
    heads = ("clients", "answered", "most inside", "p50 [s]", "p95 [s]", "429", "other", "overlap [%]")
    rows = [
        (f"{each.clients}", f"{each.answered}", f"{each.held}", f"{each.p50_s:.2f}", f"{each.p95_s:.2f}",
         f"{each.busy}", f"{each.other}", f"{100 * each.overlap:.0f}")
        for each in levels
    ]  # fmt: skip
    return "\n".join(
        [
            f"{args.places} places, features in {args.features}, {os.cpu_count()} cores for all of it:",
            "",
            *table_lines(heads, rows),
            "",
            "overlap: of the time in which the language model spoke, in which another's scan was looked at",
            "",
        ]
    )


def _kills(parts: list[tuple[str, list[End]]], count: int) -> str:
    from superflow.agents.serving.load import SERVERS, kinds

    rows = []
    for of in SERVERS:
        own = [ends for killed, ends in parts if killed == of]
        ends = sum((Counter(kinds(each)) for each in own), Counter[str]())
        said = ", ".join(f"{number} {kind}" for kind, number in sorted(ends.items(), reverse=True))
        rows.append((of, f"{len(own)}", said))
    lines = table_lines(("killed", "times", "how the requests ended"), rows)
    return "\n".join([f"{count} kills (SIGKILL) while {KILLERS} clients ask:", "", *lines, ""])


def _flips(flips: Flips) -> str:
    return (
        f"bfloat16 instead of float32 changes {flips.answers} of {flips.questions} answers, "
        f"{flips.first_tokens} of them from the first token"
    )


if __name__ == "__main__":
    sys.exit(main())
