"""Many runs and their table: a YAML plan says what is compared, each piece runs by itself, and what is there is kept.

The kinds of plans:

    one_log/            ways of pretraining on one log, by the same probe
    places/             backbones made once, then measured on many logs
    sets/               backbones that are there already, on prepared sets; stand_ins/ makes such sets
    questions/          ways of answering about scenes that nobody trained on
    saga.py             no plan: ways of making tests that find wrong programs

What they share:

    plan_file.py        YAML whose keys are the fields of a dataclass
    preparation.py      what training reads, made from a log once
    results.py          what a result was made of, so that it is gone on with and never as another one
    rows.py             figures as rows of a CSV file, each at once
    units.py, shards.py pieces in processes, or on a Ray cluster
    chart.py            a table as a picture, markdown.py as text

evidence/ makes the page of figures. Measured apart from plans: corruptions.py, hidden_points.py, drift.py, and speed/,
which also holds dry runs. `shipped.py` makes the backbones that come with the package.
"""
