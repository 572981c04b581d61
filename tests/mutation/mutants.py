"""What small wrongs can be put into a module? One change of one place each, as its text.

A mutant is the module's source with one node of its syntax tree written differently: a comparison that includes its
bound or no longer does, `and` for `or`, `&` for `|`, plus for minus, a number one higher (a large one doubled), a `~`
or `not` left out, least for greatest, one side of a search for the other, or a statement left out. Docstrings,
annotations, decorators and the texts of sentences stay as they are: changing them changes no verdict.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_NAMES = {
    one: other
    for pair in (("min", "max"), ("minimum", "maximum"), ("any", "all"), ("argmin", "argmax"), ("left", "right"))
    for one, other in (pair, pair[::-1])
}

_LARGE = 16
"""From here on a number is doubled: one more of what is counted in billions is no wrong that anybody could see."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`where`: the function that it is in, "" outside any; `was`: the line on which its place begins; `before`,
    `after`: the place's text; `source`: the whole text with the change."""

    file: str
    line: int
    where: str
    was: str
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """What it is called: the same whatever lines are added above it."""
        becomes = self.source.splitlines()[self.line - 1].strip()
        return f"{self.file}:{self.where}: {self.was} -> {becomes}"


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its text."""
    text, lines = source.encode(), source.splitlines()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, where in _nodes(ast.parse(source), ""):
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        before = text[begin:end].decode()
        for after in _changes(node):
            changed = (text[:begin] + after.encode() + text[end:]).decode()
            yield Mutant(file, node.lineno, where, lines[node.lineno - 1].strip(), before, after, changed)


def _nodes(node: ast.AST, where: str) -> Iterator[tuple[ast.AST, str]]:
    """Every node that may be changed, with the function that it is in."""
    if isinstance(node, ast.JoinedStr):  # a sentence; and before Python 3.12 nodes in it do not know their places
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        where = f"{where}.{node.name}".lstrip(".")
    if isinstance(node, ast.expr | ast.stmt | ast.keyword):
        yield node, where
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _nodes(child, where)


def _changes(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(left, ops, comparators):
            for place, op in enumerate(ops):
                others = [*ops[:place], _COMPARISONS[type(op)](), *ops[place + 1 :]]
                yield f"({ast.unparse(ast.Compare(left, others, comparators))})"
        case ast.BoolOp(op, values):
            yield f"({ast.unparse(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))})"
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            yield f"({ast.unparse(ast.BinOp(left, _OPERATORS[type(op)](), right))})"
        case ast.UnaryOp(ast.Invert() | ast.Not() | ast.USub(), operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() as value) | ast.Constant(float() as value):
            yield str(value + 1 if value < _LARGE else 2 * value)
        case ast.Name(name) if name in _NAMES:
            yield _NAMES[name]
        case ast.Attribute(value, name) if name in _NAMES:
            yield ast.unparse(ast.Attribute(value, _NAMES[name], ast.Load()))
        case ast.keyword("side", ast.Constant(str() as value)):
            yield f'side="{_NAMES[value]}"'
        case ast.IfExp(test, body, orelse):
            yield f"({ast.unparse(ast.IfExp(test, orelse, body))})"
        case ast.If(body=[*_, ast.Return() | ast.Continue() | ast.Raise()], orelse=[]):
            yield "pass"  # an early end left out
        case ast.AugAssign(target, op, value) if type(op) in _OPERATORS:
            yield ast.unparse(ast.AugAssign(target, _OPERATORS[type(op)](), value))
            yield "pass"
        case ast.AugAssign():
            yield "pass"
        case ast.Assign([ast.Subscript() | ast.Attribute()]):
            yield "pass"
        case ast.Expr(ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield "pass"
