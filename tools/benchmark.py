"""Compare ways of pretraining: a plan's arms, each with several seeds, on one log, or on places of several logs.

    superflow benchmark pandaset --data LOG --out work_dirs/pandaset --seeds 0 1 2 --jobs 2
    superflow benchmark pandaset --prepared work_dirs/prepared --out work_dirs/pandaset --arms random SuperFlow++

Each arm and seed is a process of one thread and writes OUT/ARM/seed_N/benchmark.json; run again, finished ones are
kept and stopped ones resume. The table goes to OUT/table.md and as a picture to OUT/table.png, every figure to
OUT/table.json.

    superflow benchmark places --root kitti=KITTI --root street=PANDASET --out work_dirs/places
    superflow benchmark places --root kitti=KITTI --out work_dirs/places --sources made --arms SLidR --measures probe

A plan of places names pretraining sources, arms, evaluation logs and measures. Each backbone is trained once and lies
in OUT/backbones; each figure is at once a row of OUT/places.csv, each trial of a recipe one of OUT/recipes.csv. Rows
that stand there are not made again.

    superflow benchmark questions_small --root pretrained=BACKBONE --out work_dirs/questions

A plan of questions makes scenes and questions about them, and names arms that answer those of held-out scenes: without
looking, with a backbone's features, by predicted objects. Figures are rows of OUT/questions.csv at once, with intervals
over scenes; --root gives files of backbones, or a log instead of a made one.

    superflow benchmark saga --out work_dirs/saga --seeds 0 1 2

compares ways of making tests that find wrong programs (`superflow.agents.saga`). It needs no log, runs in one process,
and wants the extra `agents`; rows go to OUT/saga.csv as soon as they are known, the table to OUT/saga.md.

    superflow benchmark datasets --log work_dirs/prepared --weights street-tiny --protocols lp,knn,dp,1,full --out OUT

Backbones that are there already, on every prepared set: --log takes NAME=FOLDER, a prepared folder, or one that holds
them; --stand-ins makes streets in the form of eleven sets. Each set and backbone is a process; a set that fails is
reported, the others go on, and the exit code is 2. The figures are rows of OUT/places.csv, the table is OUT/datasets.md
and OUT/datasets.png, the scans of each budget are listed in OUT/lists.

    superflow benchmark stand_ins --stand-ins --weights street-tiny --jobs 2 --out work_dirs/stand_ins
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.errors import InputError
from superflow.files.access import check_place
from superflow.files.writes import write_json, write_text
from superflow.tools.command import (
    add_leakage_argument,
    command_parser,
    count,
    named_values,
    run_command,
    seed,
)
from superflow.tools.log_arguments import add_log_arguments, log_options, refuse_log_arguments

if TYPE_CHECKING:
    from superflow.benchmark.one_log.plan import Plan
    from superflow.benchmark.places.plan import PlacesPlan
    from superflow.benchmark.questions.plan import QuestionsPlan
    from superflow.benchmark.sets.plan import SetsPlan
    from superflow.benchmark.units import Unit

log = logging.getLogger("superflow.benchmark")

PARTS = ("sources", "evaluations", "measures")  # of a plan of places, which a call may choose from
# kind of plan -> its options, beside those of all
_TAKES = {
    "one log": ("data", "prepared", "arms", "teacher", "allow_leakage"),
    "places": ("root", "arms", *PARTS, "budgets", "teacher", "ray", "allow_leakage"),
    "questions": ("root", "arms", "ray", "allow_leakage"),
    "sets": ("log", "stand_ins", "weights", "protocols", "random", "ray", "allow_leakage"),
    "saga": ("arms",),
}
_WORDS = {
    **{"one log": "a plan for one log", "places": "a plan of places", "questions": "a plan of questions"},
    **{"sets": "a plan for prepared sets", "saga": "a benchmark of made scenes"},
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    from superflow.benchmark.plan_file import shipped_plans

    parser = command_parser("benchmark", __doc__)
    parser.add_argument(
        "plan",
        type=Path,
        help=f"a YAML plan, or the name of a shipped one ({', '.join(shipped_plans())}), or saga",
    )
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data", type=Path, help="a log in nuScenes schema; prepared into OUT/prepared")
    data.add_argument("--prepared", type=Path, help="folder that an earlier preparation filled")
    add_log_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--seeds", type=seed, nargs="+", help="default: those of the plan, else 0")
    parser.add_argument("--arms", nargs="+", metavar="NAME", help="only these arms")
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="of a plan of places or questions: where a log lies, or its preparation, or a backbone",
    )
    places = parser.add_argument_group("of a plan of places")
    for part in PARTS:
        places.add_argument(f"--{part}", nargs="+", metavar="NAME", help=f"only these {part}")
    places.add_argument(
        "--budgets", nargs="+", metavar="NAME", help="only these budgets of measures that have them"
    )
    sets = parser.add_argument_group("of a plan for prepared sets")
    sets.add_argument("--log", action="append", default=[], metavar="[NAME=]FOLDER", help="prepared sets")
    sets.add_argument(
        "--stand-ins",
        nargs="*",
        metavar="NAME",
        help="made streets in the form of these sets (or all eleven), made in OUT/stand_ins and measured",
    )
    sets.add_argument(
        "--weights", nargs="+", default=[], metavar="[NAME=]W", help="backbones, as superflow.load takes them"
    )
    sets.add_argument("--protocols", help="such as lp,knn,dp,1,10,full (default: all of the plan)")
    sets.add_argument(
        "--random", action="store_true", help="beside each backbone random weights of its encoder"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="hand work (of plans of places and sets preparation, too) to this Ray cluster; or local",
    )
    add_leakage_argument(parser)
    parser.add_argument("--jobs", type=count, default=1, help="processes at a time")
    parser.add_argument(
        "--teacher", help="image teacher (default: efficientnet_lite0, or that of a plan of places)"
    )
    args = parser.parse_args(argv)
    if args.stand_ins is not None:
        args.stand_ins = args.stand_ins or ["all"]
    if args.data is None:
        refuse_log_arguments(parser, args)
    return args


def main(argv: list[str] | None = None) -> int:
    """0 when every arm has its figures, 2 when the input cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args = parse_args(argv)
    # before torch is imported, here and in the child processes: spinning workers would stall each other
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return run_command("superflow benchmark", lambda: _benchmark(args))


def _benchmark(args: argparse.Namespace) -> int:
    from superflow.benchmark.plan_file import find_plan, kind_of_plan

    is_saga = str(args.plan) == "saga"
    path = args.plan if is_saga else find_plan(args.plan)
    kind = "saga" if is_saga else kind_of_plan(path)
    given = [name for name in dict.fromkeys(sum(_TAKES.values(), ())) if getattr(args, name)]
    if surplus := [name for name in given if name not in _TAKES[kind]]:
        option, *options = (f"--{name.replace('_', '-')}" for name in (surplus[0], *_TAKES[kind]))
        raise InputError(
            f"{path}: is {_WORDS[kind]}; leave out {option}: beside --out, --seeds and --jobs go {', '.join(options)}"
        )
    return _RUNS[kind](path, args)


def _saga(path: Path, args: argparse.Namespace) -> int:
    from superflow.benchmark.plan_file import refuse_absent
    from superflow.benchmark.saga import ARMS, run_saga, table

    arms = args.arms or list(ARMS)
    refuse_absent(arms, ARMS, "--arms: saga")
    check_place(args.out)
    for name in run_saga(args.out, _seeds(args), arms):
        log.info("%s is done", name)
    write_text(args.out / "saga.md", table(args.out))
    print(table(args.out))
    return 0


def _places(path: Path, args: argparse.Namespace) -> int:
    from superflow.benchmark.places.plan import FIXED_SOURCES
    from superflow.benchmark.places.plan_file import load_places_plan
    from superflow.benchmark.places.run import (
        PlacesUnit,
        places_rows,
        prepare_places,
        with_budgets,
        with_places,
        with_teacher,
    )

    plan = load_places_plan(path)
    plan = with_teacher(with_places(plan, _roots(args)), args.teacher)
    plan = replace(plan, allow_leakage=args.allow_leakage or plan.allow_leakage)
    seeds = _seeds(args, plan)
    check_place(args.out)
    # of backbones that the plan does not train, as tables name them; all of these where none is named
    fixed = [name for name in FIXED_SOURCES if name in (args.sources or ())] or FIXED_SOURCES
    trained = args.sources and [name for name in args.sources if name not in FIXED_SOURCES]
    sources = _chosen(plan, "sources", trained)
    evaluations, measures = (
        _chosen(plan, "evaluations", args.evaluations),
        _chosen(plan, "measures", args.measures),
    )
    arms = _chosen(plan, "arms", args.arms)
    backbones = [(s, a) for s, a in plan.backbones() if a in arms and s in (*fixed, *sources)]
    if not backbones:
        asked = ", ".join(args.sources or sources)
        raise InputError(f"{path}: none of the arms {', '.join(arms)} is trained on {asked or 'nothing'}")
    plan = with_budgets(plan, args.budgets)
    used = [name for name in sources if any(source == name for source, _ in backbones)]
    chosen = {"arms": arms, "measures": measures}
    prepare_places(plan, used, evaluations, args.out, jobs=args.jobs, ray=args.ray, **chosen)
    units = [
        PlacesUnit(plan, source, arm, seed, args.out, str(args.plan), tuple(evaluations), tuple(measures))
        for seed in seeds
        for source, arm in backbones
    ]
    _run_all(units, args)
    print(f"{places_rows(args.out).path}: {len(places_rows(args.out).read())} figures")
    return 0


def _run_all(units: Sequence[Unit], args: argparse.Namespace) -> None:
    from superflow.benchmark.units import run_units

    for number, name in enumerate(run_units(units, jobs=args.jobs, ray=args.ray), start=1):
        log.info("%d of %d: %s is done", number, len(units), name)


def _seeds(args: argparse.Namespace, plan: PlacesPlan | QuestionsPlan | SetsPlan | None = None) -> list[int]:
    """Those of ``--seeds``, else those of a plan that has some, else 0."""
    from superflow.benchmark.plan_file import check_seeds

    if args.seeds:
        return check_seeds(args.seeds, "--seeds")
    return [0] if plan is None else check_seeds(plan.seeds, f"{args.plan}: seeds")


def _roots(args: argparse.Namespace) -> dict[str, str]:
    """What ``--root`` says: name -> place."""
    form = "NAME=PLACE, as LOG=FOLDER"
    roots = named_values("--root", args.root, form)
    if empty := [name for name, place in roots.items() if not place]:
        raise InputError(f"--root {empty[0]}=: give {form}")
    return roots


def _questions(path: Path, args: argparse.Namespace) -> int:
    from superflow.benchmark.questions.plan import load_questions_plan

    plan = load_questions_plan(path)
    from superflow.benchmark.questions import run as questions

    plan = questions.with_places(plan, _roots(args))
    plan = replace(plan, allow_leakage=args.allow_leakage or plan.allow_leakage)
    arms, seeds = _chosen(plan, "arms", args.arms), _seeds(args, plan)
    check_place(args.out)
    questions.prepare(plan, arms, args.out, jobs=args.jobs)
    units = questions.run_of(plan, arms, seeds, args.out, str(args.plan))
    try:
        _run_all(units, args)
    finally:  # an arm that failed does not take the others' differences with it
        questions.compare(plan, seeds, args.out, str(args.plan))
        questions.average(plan, seeds, args.out, str(args.plan))
    print(questions.markdown(questions.questions_rows(args.out).read()))
    return 0


def _sets(path: Path, args: argparse.Namespace) -> int:
    from superflow.benchmark.places.run import places_rows
    from superflow.benchmark.sets.plan import load_sets_plan, plan_of_places
    from superflow.benchmark.sets.run import find_sets, named_weights, read_sets, units_of
    from superflow.benchmark.sets.table import write_tables
    from superflow.benchmark.stand_ins import make_stand_in, stand_in_tasks
    from superflow.benchmark.units import FiguresFailed, prepare_pieces

    plan = load_sets_plan(path)
    protocols = plan.chosen(args.protocols.split(",") if args.protocols is not None else list(plan.protocols))
    weights, out, seeds = named_weights(args.weights), args.out.absolute(), _seeds(args, plan)
    tasks = stand_in_tasks(args.stand_ins or [], out / "stand_ins")
    check_place(out)
    missing = {task.name: task for task in tasks if not task.is_made()}
    failed = prepare_pieces(make_stand_in, missing, jobs=args.jobs, ray=args.ray)[1]
    sets = find_sets([*args.log, *(f"{task.name}={task.prepared}" for task in tasks if task.is_made())])
    usable, refused = read_sets(plan, sets, out)
    failed += [f"{name}: {reason}" for name, reason in refused.items()]
    for reason in failed:
        log.error("failed: %s", reason)
    frames = {name: known.evaluation for name, known in usable.items()}
    options = {"with_random": args.random, "allow_leakage": args.allow_leakage}
    places = plan_of_places(plan, protocols, sets, frames, weights, **options)
    units = units_of(places, protocols, weights, out=out, plan_name=str(args.plan), seeds=seeds)
    try:
        _run_all(units, args)
    except FiguresFailed as error:
        failed += error.failed
    print(write_tables(out, places_rows(out).read(), protocols, usable, failed))
    if failed:
        raise InputError(f"{len(failed)} sets or figures failed, the first one {failed[0]}")
    return 0


def _chosen(plan: PlacesPlan | QuestionsPlan, part: str, names: list[str] | None) -> list[str]:
    """The names of a part of a plan that were asked for, all of them when None."""
    from superflow.benchmark.plan_file import refuse_absent

    known = list(getattr(plan, part))
    refuse_absent(names or (), known, f"--{part}: the plan")
    return known if names is None else [name for name in known if name in names]


def _one_log(path: Path, args: argparse.Namespace) -> int:
    from superflow.benchmark.chart import draw_chart
    from superflow.benchmark.one_log.arms import lookup_control, read_results, run_arms
    from superflow.benchmark.one_log.plan import load_plan
    from superflow.benchmark.one_log.table import LOOKUP, leakage_lines, markdown, table

    if args.data is None and args.prepared is None:
        raise InputError(f"{path}: is a plan for one log; give it with --data ROOT or --prepared FOLDER")
    args.seeds = _seeds(args)
    plan = load_plan(path)
    plan = replace(
        plan, teacher=args.teacher or plan.teacher, allow_leakage=args.allow_leakage or plan.allow_leakage
    )
    arms = list(plan.arms) if args.arms is None else [plan.arm(name) for name in args.arms]
    check_place(args.out)
    prepared = args.prepared or _prepare(plan, args)
    tasks = [(plan, arm, seed, prepared, args.out) for seed in args.seeds for arm in arms]
    try:
        for number, record in enumerate(run_arms(tasks, jobs=args.jobs), start=1):
            log.info("%d of %d: %s, seed %d is done", number, len(tasks), record["arm"], record["seed"])
    finally:  # a run that failed does not take the others' figures with it
        control = lookup_control(plan, prepared=prepared, out=args.out)
        records = [*([control] if control else []), *read_results(plan, prepared=prepared, out=args.out)]
        rows = table(plan, records)
        text = "\n".join([markdown(rows), *leakage_lines(records)])
        write_json(args.out / "table.json", rows)
        write_text(args.out / "table.md", text + "\n")
        print(text)
        draw_chart(rows, args.out / "table.png", leave_out=[LOOKUP])
    return 0


def _prepare(plan: Plan, args: argparse.Namespace) -> Path:
    from superflow.benchmark.one_log.arms import labelled_frames
    from superflow.benchmark.preparation import prepare_features, prepare_index, prepare_providers

    prepared = args.out / "prepared"
    index = prepare_index(args.data, prepared, **log_options(args))
    labelled_frames(plan, index)  # refuses before the work
    features = prepare_features(index, plan.train, teacher=plan.teacher, threads=args.jobs)
    prepare_providers(index, plan.train, plan.superpixels, features=features, workers=args.jobs)
    return prepared


_RUNS = {"one log": _one_log, "places": _places, "questions": _questions, "sets": _sets, "saga": _saga}

if __name__ == "__main__":
    sys.exit(main())
