"""The part of the page of figures about recipes of fine-tuning: what each was worth on held-out training places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..markdown import table_lines
from ..rows import Row

_EXPLANATION = (
    "mIoU [%] on training places that took turns in being held out, one seed; a recipe is named by the fields that "
    "differ. Bold is what each backbone got: the best of the recipes that its search came to."
)
Backbone = tuple[str, str]  # source, arm


def trial_lines(rows: Iterable[Row]) -> list[str]:
    """For each log, budget and measure a row for each recipe and a column for each backbone; no lines without trials.

    The measure is named where several have one budget.
    """
    trials: dict[tuple[str, str, str], dict[str, dict[Backbone, float]]] = {}
    for row in rows:
        if row["mIoU"]:
            table = trials.setdefault((row["evaluation log"], row["budget"], row["measure"]), {})
            table.setdefault(row["recipe"], {})[(row["source"], row["arm"])] = float(row["mIoU"])
    lines = ["### Recipes of fine-tuning, tried on held-out places", "", _EXPLANATION, ""] if trials else []
    tables_at = Counter((log, budget) for log, budget, _ in trials)
    for (log, budget, measure), table in sorted(trials.items()):
        named = f", {measure}" if tables_at[log, budget] > 1 else ""
        lines += [f"Of {log}, {budget}{named}:", "", *_table(table), ""]
    return lines


def _table(trials: dict[str, dict[Backbone, float]]) -> list[str]:
    backbones = list(dict.fromkeys(backbone for found in trials.values() for backbone in found))
    best = {who: max(found[who] for found in trials.values() if who in found) for who in backbones}
    heads = ["recipe", *(f"{arm} ({source})" for source, arm in backbones)]
    names = short_names(list(trials))
    ordered = sorted(trials, key=lambda recipe: [_number(field) for field in recipe.split()])
    rows = []
    for recipe in ordered:
        found = trials[recipe]
        texts = [f"{found[who]:.1f}" if who in found else "-" for who in backbones]
        marked = [f"**{t}**" if found.get(w) == best[w] else t for w, t in zip(backbones, texts)]
        rows.append([names[recipe], *marked])
    return table_lines(heads, rows)


def short_names(recipes: Sequence[str]) -> dict[str, str]:
    """Recipe -> its fields (``name=value name=value``) that are not the same in all of them."""
    fields = {
        recipe: {name: value for name, _, value in (field.partition("=") for field in recipe.split())}
        for recipe in recipes
    }
    names = dict.fromkeys(name for own in fields.values() for name in own)
    differ = [name for name in names if len({own.get(name) for own in fields.values()}) > 1]
    return {
        recipe: ", ".join(f"{name} {own[name]}".rstrip() for name in differ if name in own)
        or "the one that was tried"
        for recipe, own in fields.items()
    }


def _number(field: str) -> tuple[str, float, str]:
    """A key by which fields of recipes are sorted: numbers by their size."""
    name, _, value = field.partition("=")
    try:
        return name, float(value), ""
    except ValueError:
        return name, 0.0, value
