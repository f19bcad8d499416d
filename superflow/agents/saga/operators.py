"""Wrong programs out of right ones: each operator changes one place of a program's syntax tree.

Most operators make the programs that makers of tests learn from, the others only score: ``HELD_OUT``.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# the node that takes the place of one; None where it does not apply
Change = Callable[[ast.AST], ast.AST | None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A program with one change. operator: of ``OPERATORS``. what: where, and how it reads now."""

    operator: str
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every program that one operator makes of one place, no text twice."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for name, change in OPERATORS.items():
        for place, node in enumerate(ast.walk(tree)):
            new = change(node)
            if new is None:
                continue
            text = ast.unparse(_with(tree, place, new))
            if text not in seen:
                seen.add(text)
                line = getattr(node, "lineno", 0)
                yield Mutant(name, f"line {line}: {ast.unparse(new)}", text)


def _with(tree: ast.AST, place: int, new: ast.AST) -> ast.AST:
    """A copy of a tree whose node of that place in ``ast.walk`` is another."""
    copied = copy.deepcopy(tree)
    old = next(node for i, node in enumerate(ast.walk(copied)) if i == place)
    for parent in ast.walk(copied):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                setattr(parent, name, [new if item is old else item for item in value])
    return ast.fix_missing_locations(copied)


def _comparison(table: dict[type[ast.cmpop], type[ast.cmpop]]) -> Change:
    """The first operator of a comparison for another one that the table names."""

    def change(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.Compare):
            return None
        places = [i for i, op in enumerate(node.ops) if type(op) in table]
        if not places:
            return None
        ops = list(node.ops)
        ops[places[0]] = table[type(ops[places[0]])]()
        return ast.Compare(node.left, ops, node.comparators)

    return change


def _arithmetic(table: dict[type[ast.operator], type[ast.operator]]) -> Change:
    def change(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in table:
            new = copy.copy(node)
            new.op = table[type(node.op)]()
            return new
        return None

    return change


def _constant(shift: Callable[[float], float]) -> Change:
    def change(node: ast.AST) -> ast.AST | None:
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int | float)
            and not isinstance(node.value, bool)
        ):
            return ast.Constant(shift(node.value))
        return None

    return change


def _swapped_index(node: ast.AST) -> ast.AST | None:
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and node.slice.value in (0, 1)
    ):
        return ast.Subscript(node.value, ast.Constant(1 - node.slice.value), node.ctx)
    return None


def _swapped_arguments(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Call) and len(node.args) == 2 and _name(node) not in ("hypot", "min", "max"):
        return ast.Call(node.func, node.args[::-1], node.keywords)
    return None


def _without_call(*names: str) -> Change:
    """What a function of one argument was given, instead of what it returns."""

    def change(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            return node.args[0] if _name(node) in names else None
        return None

    return change


def _name(call: ast.Call) -> str:
    """Of the function that is called, without its module."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _without_sign(node: ast.AST) -> ast.AST | None:
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else None


def _without_wrap(node: ast.AST) -> ast.AST | None:
    return node.left if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) else None


def _without_guard(node: ast.AST) -> ast.AST | None:
    """An ``if`` that only leaves early (return, continue, break) is gone."""
    if isinstance(node, ast.If) and not node.orelse and len(node.body) == 1:
        return ast.Pass() if isinstance(node.body[0], ast.Return | ast.Continue | ast.Break) else None
    return None


def _without_part(last: bool) -> Change:
    """One part of an ``and`` or ``or`` is gone."""

    def change(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.BoolOp):
            return None
        kept = node.values[:-1] if last else node.values[1:]
        return kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)

    return change


def _other_junction(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BoolOp):
        return ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    return None


def _other_end(node: ast.AST) -> ast.AST | None:
    """min for max and back; a loop over a sequence from its other end is `_backwards`."""
    if isinstance(node, ast.Name) and node.id in ("min", "max"):
        return ast.Name("max" if node.id == "min" else "min", node.ctx)
    return None


def _backwards(node: ast.AST) -> ast.AST | None:
    """The objects of a scene in the opposite order: ties go to another one."""
    if isinstance(node, ast.Attribute) and node.attr == "objects":
        step = ast.UnaryOp(ast.USub(), ast.Constant(1))
        return ast.Subscript(node, ast.Slice(None, None, step), ast.Load())
    return None


def _skips_first(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Attribute) and node.attr == "objects":
        return ast.Subscript(node, ast.Slice(ast.Constant(1), None, None), ast.Load())
    return None


def _without_filter(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.comprehension) and node.ifs:
        return ast.comprehension(node.target, node.iter, [], node.is_async)
    return None


def _other_default(node: ast.AST) -> ast.AST | None:
    """A default for nothing that is 0 instead of what it was."""
    if isinstance(node, ast.keyword) and node.arg == "default":
        return ast.keyword("default", ast.Constant(0))
    return None


def _negated(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.If):
        return ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    return None


def _without_chain(node: ast.AST) -> ast.AST | None:
    """``a < x`` of ``a < x <= b``."""
    if isinstance(node, ast.Compare) and len(node.ops) > 1:
        return ast.Compare(node.left, node.ops[:1], node.comparators[:1])
    return None


def _other_distance(made: Callable[[ast.expr, ast.expr], ast.AST]) -> Change:
    """Something else of the two legs of a distance."""

    def change(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Call) and _name(node) == "hypot" and len(node.args) == 2:
            return made(*node.args)
        return None

    return change


def _absolute(value: ast.expr) -> ast.Call:
    return ast.Call(ast.Name("abs", ast.Load()), [value], [])


def _whole(node: ast.AST) -> ast.AST | None:
    """The left side of an order without what follows its point."""
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
        left = ast.Call(ast.Name("int", ast.Load()), [node.left], [])
        return ast.Compare(left, node.ops, node.comparators)
    return None


def _wider(node: ast.AST) -> ast.AST | None:
    """An order that lets a little more through, as if against rounding."""
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
        return None
    more: ast.operator = ast.Add() if isinstance(node.ops[0], ast.Lt | ast.LtE) else ast.Sub()
    edge = ast.BinOp(node.comparators[0], more, ast.Constant(0.001))
    return ast.Compare(node.left, node.ops, [edge, *node.comparators[1:]])


def _other_leave(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Continue):
        return ast.Break()
    return ast.Continue() if isinstance(node, ast.Break) else None


def _empty_for_none(node: ast.AST) -> ast.AST | None:
    """What is 0 or empty is taken for None."""
    if isinstance(node, ast.Compare) and isinstance(node.comparators[0], ast.Constant):
        if isinstance(node.ops[0], ast.Is):
            return ast.UnaryOp(ast.Not(), node.left)
        if isinstance(node.ops[0], ast.IsNot):
            return node.left
    return None


def _overwritten(node: ast.AST) -> ast.AST | None:
    return ast.Assign([node.target], node.value) if isinstance(node, ast.AugAssign) else None


def _unsorted(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Call) and _name(node) == "sorted":
        return ast.Call(ast.Name("list", ast.Load()), node.args[:1], [])
    return None


def _skips_last(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Attribute) and node.attr == "objects":
        end = ast.UnaryOp(ast.USub(), ast.Constant(1))
        return ast.Subscript(node, ast.Slice(None, end, None), ast.Load())
    return None


def _other_size(node: ast.AST) -> ast.AST | None:
    """Width for length, height for width, length for height."""
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "size"
        and isinstance(node.slice, ast.Constant)
    ):
        return ast.Subscript(node.value, ast.Constant((int(str(node.slice.value)) + 1) % 3), node.ctx)
    return None


EDGE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt
}  # fmt: skip
TURN: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip

OPERATORS: dict[str, Change] = {
    "comparison turned": _comparison(TURN),
    "comparison edge": _comparison(EDGE),
    "one more": _constant(lambda value: value + 1),
    "a little more": _constant(lambda value: value * 1.05 + 0.02),
    "plus for minus": _arithmetic({ast.Sub: ast.Add, ast.Add: ast.Sub}),
    "times for over": _arithmetic({ast.Mult: ast.Div, ast.Div: ast.Mult}),
    "index swapped": _swapped_index,
    "arguments swapped": _swapped_arguments,
    "sign lost": _without_sign,
    "absolute value lost": _without_call("abs"),
    "degrees for radians": _without_call("degrees", "radians"),
    "wrap lost": _without_wrap,
    "guard lost": _without_guard,
    "last part lost": _without_part(last=True),
    "first part lost": _without_part(last=False),
    "or for and": _other_junction,
    "max for min": _other_end,
    "order turned": _backwards,
    "first object lost": _skips_first,
    "filter lost": _without_filter,
    "default lost": _other_default,
    "condition turned": _negated,
    "rest of a chain lost": _without_chain,
    "one axis alone": _other_distance(lambda x, y: _absolute(x)),
    "sum for root": _other_distance(lambda x, y: ast.BinOp(_absolute(x), ast.Add(), _absolute(y))),
    "cut to whole": _whole,
    "a hair wider": _wider,
    "break for continue": _other_leave,
    "empty for none": _empty_for_none,
    "overwritten": _overwritten,
    "order lost": _unsorted,
    "last object lost": _skips_last,
    "other size": _other_size,
}
# operators of which nothing that makes tests sees a program
HELD_OUT = frozenset(
    {
        "condition turned", "rest of a chain lost", "one axis alone", "sum for root", "cut to whole", "a hair wider",
        "break for continue", "empty for none", "overwritten", "order lost", "last object lost", "other size",
    }
)  # fmt: skip
