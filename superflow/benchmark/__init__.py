"""Many runs and their table: a YAML plan says what is compared, each piece runs by itself, and what is there is kept.

The kinds of plans, each with its files:

    plan.py             for one log: ways of pretraining by the same probe; arms.py runs them, table.py, chart.py draw
    places_plan.py      of places: backbones made once (backbones.py), then measured on every log (measures.py)
    places_file.py      its file: what it takes from other plans, and whether its names stand for something
    sets_plan.py        for prepared sets: backbones that are there already; stand_ins/ makes such sets
    questions_plan.py   of questions: ways of answering about scenes that nobody trained on
    saga.py             no plan: ways of making tests that find wrong programs

What they share:

    plan_file.py        YAML whose keys are the fields of a dataclass
    preparation.py      what training reads, made from a log once
    results.py          what a result was made of, so that it is gone on with and never as another one
    rows.py             figures as rows of a CSV file, each at once
    units.py, shards.py pieces in processes, or on a Ray cluster
    recipe_search.py    which recipe of fine-tuning a backbone gets
    evidence.py         the page of figures, with ties.py, scaling_curves.py, robustness_table.py

Measured apart from plans: corruptions.py, hidden_points.py, drift.py, and speed/, which also holds dry runs.
`shipped.py` makes the backbones that come with the package.
"""
