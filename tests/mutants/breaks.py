"""What can be broken in a module: each `Break` is one changed field of its syntax tree.

Conditions become always true and always false (a negated one is caught by whatever catches
both); operands, statements, entries, arguments and defaults are left out; comparisons, numbers
and operators become their neighbours. Left alone: docstrings, annotations, decorators, asserts,
texts, and what is inside a `raise`.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
}
LEFT_OUT = (ast.Expr, ast.AugAssign, ast.Delete, ast.For, ast.Raise, ast.Continue, ast.Break)
"""Statements without which a function still compiles and binds its names."""


@dataclass(frozen=True, eq=False)
class Break:
    """One node of a module's tree with other fields, on one line."""

    path: str
    line: int
    text: str
    """Of the line."""
    change: str
    tree: ast.Module
    node: ast.AST
    fields: Mapping[str, Any]

    def compiled(self, filename: str) -> CodeType:
        """The module with this break in it; the tree is whole again afterwards."""
        whole = {name: getattr(self.node, name) for name in self.fields}
        self._set(self.fields)
        try:
            return compile(ast.fix_missing_locations(self.tree), filename, "exec")
        finally:
            self._set(whole)

    def _set(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            setattr(self.node, name, value)

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def breaks(root: Path, path: str) -> list[Break]:
    """All of a module's, in the order of its lines."""
    source = (root / path).read_text()
    finder = _Finder(path, source.splitlines(), ast.parse(source))
    finder.visit(finder.tree)
    return sorted(finder.found, key=lambda each: each.line)


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, lines: list[str], tree: ast.Module) -> None:
        self.path, self.lines, self.tree = path, lines, tree
        self.found: list[Break] = []
        self._returns: list[str] = []
        """Of the functions around here."""
        self._in_class = False

    def _add(self, at: ast.AST, change: str, node: ast.AST, **fields: Any) -> None:
        """`at` is where; `node` is what gets other `fields`."""
        line = getattr(at, "lineno", 1)
        text = self.lines[line - 1].strip()
        self.found.append(Break(self.path, line, text, change, self.tree, node, fields))

    def _instead(self, node: ast.AST, field: str, new: ast.expr) -> None:
        old = getattr(node, field)
        self._add(old, f"`{_short(old)}` → `{_short(new)}`", node, **{field: new})

    def _without(self, node: ast.AST, field: str, *, keep: int = 1, more: str = "") -> None:
        """Each element of a list left out; a list of `keep` elements stays."""
        elements: Sequence[ast.AST] = getattr(node, field)
        for at, element in enumerate(elements):
            if len(elements) > keep:
                rest = [*elements[:at], *elements[at + 1 :]]
                self._add(element, f"without {more}`{_short(element)}`", node, **{field: rest})

    # --- left alone ---

    def visit_Assert(self, node: ast.Assert) -> None: ...

    def visit_Raise(self, node: ast.Raise) -> None: ...

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id in ("Literal", "Annotated")):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None:
            return
        if self._in_class:
            self._add(node, f"`{_short(node.target)}` without default", node, value=None)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if ast.unparse(node.targets[0]) != "__all__":
            self.generic_visit(node)

    # --- statements ---

    def generic_visit(self, node: ast.AST) -> None:
        for name in ("body", "orelse", "finalbody"):
            if isinstance(getattr(node, name, None), list):
                self._statements(node, name)
        super().generic_visit(node)

    def _statements(self, node: ast.AST, field: str) -> None:
        body: list[ast.stmt] = getattr(node, field)
        for at, statement in enumerate(body):
            if _can_go(statement, inside=bool(self._returns)):
                rest = [*body[:at], *body[at + 1 :]] or [ast.Pass()]
                self._add(statement, f"without `{_short(statement)}`", node, **{field: rest})

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._returns.append(ast.unparse(node.returns) if node.returns else "")
        of_class, self._in_class = self._in_class, False
        self._defaults(node.args)
        self._statements(node, "body")
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)
        self._in_class = of_class
        self._returns.pop()

    def _defaults(self, node: ast.arguments) -> None:
        if node.defaults:
            name = node.args[len(node.args) - len(node.defaults)].arg
            rest = node.defaults[1:]
            self._add(node.defaults[0], f"`{name}` without default", node, defaults=rest)
        for at, default in enumerate(node.kw_defaults):
            if default is not None:
                rest = [*node.kw_defaults[:at], None, *node.kw_defaults[at + 1 :]]
                name = node.kwonlyargs[at].arg
                self._add(default, f"`{name}` without default", node, kw_defaults=rest)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._in_class = True
        for statement in node.body:
            self.visit(statement)
        self._in_class = False

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            return
        for new in _empty(self._returns[-1]):
            if ast.unparse(new) != ast.unparse(node.value):
                self._instead(node, "value", new)
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    # --- conditions ---

    def _condition(self, node: ast.AST, field: str) -> None:
        for answer in (True, False):
            self._instead(node, field, ast.Constant(answer))

    def visit_If(self, node: ast.If) -> None:
        self._condition(node, "test")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node, "test")
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._condition(node, "test")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for at, condition in enumerate(node.ifs):
            for answer in (True, False):
                new = [*node.ifs[:at], ast.Constant(answer), *node.ifs[at + 1 :]]
                self._add(condition, f"`{_short(condition)}` → `{answer}`", node, ifs=new)
        super().generic_visit(node)

    def visit_Match(self, node: ast.Match) -> None:
        real = [case for case in node.cases if not _never(case)]
        for case in real:
            rest = [other for other in node.cases if other is not case]
            if rest:
                change = f"without `case {_short(case.pattern)}`"
                self._add(case.pattern, change, node, cases=rest)
        self.visit(node.subject)
        for case in real:
            if case.guard is not None:
                self._condition(case, "guard")
                self.visit(case.guard)
            self._statements(case, "body")
            for statement in case.body:
                self.visit(statement)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, f"`{_short(node)}`: and ↔ or", node, op=other)
        for at, value in enumerate(node.values):
            rest = [*node.values[:at], *node.values[at + 1 :]]
            both = rest if len(rest) > 1 else rest * 2  # one alone is no operation
            self._add(value, f"without `{_short(value)}`", node, values=both)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            twice = ast.UnaryOp(ast.Not(), node.operand)
            self._add(node, f"`{_short(node)}` without not", node, operand=twice)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, op in enumerate(node.ops):
            new = [*node.ops[:at], COMPARED[type(op)](), *node.ops[at + 1 :]]
            sign = _short(ast.Compare(ast.Name("a"), [new[at]], [ast.Name("b")]))
            self._add(node, f"`{_short(node)}` → `{sign}`", node, ops=new)
        self.generic_visit(node)

    # --- values ---

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = COMPUTED.get(type(node.op))
        if other is not None:
            sign = _short(ast.BinOp(ast.Name("a"), other(), ast.Name("b")))
            self._add(node, f"`{_short(node)}` → `{sign}`", node, op=other())
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        other = COMPUTED.get(type(node.op))
        if other is not None:
            self._add(node, f"`{_short(node)}`: + ↔ -", node, op=other())
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(node, f"`{node.value}` → `{not node.value}`", node, value=not node.value)
        elif isinstance(node.value, int):
            for other in (node.value - 1, node.value + 1):
                self._add(node, f"`{node.value}` → `{other}`", node, value=other)

    def visit_List(self, node: ast.List) -> None:
        if isinstance(node.ctx, ast.Load):
            self._without(node, "elts", keep=0)
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        if isinstance(node.ctx, ast.Load):
            self._without(node, "elts")
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        self._without(node, "elts")
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        """A table: each entry left out, each entry leading to where its neighbour leads."""
        for at, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            name = _short(key) if key is not None else f"**{_short(value)}"
            fewer = {
                "keys": [*node.keys[:at], *node.keys[at + 1 :]],
                "values": [*node.values[:at], *node.values[at + 1 :]],
            }
            self._add(key or value, f"without `{name}`", node, **fewer)
            others = [v for v in node.values if ast.dump(v) != ast.dump(value)]
            if others and not isinstance(value, ast.Dict):
                new = others[at % len(others)]
                values = [*node.values[:at], new, *node.values[at + 1 :]]
                self._add(value, f"`{name}` leads to `{_short(new)}`", node, values=values)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._without(node, "keywords", keep=0, more="argument ")
        self.generic_visit(node)


def _can_go(statement: ast.stmt, *, inside: bool) -> bool:
    """Whether a function still compiles, and knows its names, without this statement."""
    if not inside or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    ):
        return False
    if isinstance(statement, ast.Assign):
        return not any(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
    return isinstance(statement, LEFT_OUT)


def _empty(returns: str) -> list[ast.expr]:
    """What a function that does nothing would return."""
    for start, text in (("list", "[]"), ("dict", "{}"), ("set", "set()"), ("tuple", "()")):
        if returns.startswith(start):
            return [ast.parse(text, mode="eval").body]
    if returns == "bool":
        return [ast.Constant(True), ast.Constant(False)]
    return [ast.Constant(None)]


def _never(case: ast.match_case) -> bool:
    """There for the type checker: no value takes this arm."""
    text = ast.unparse(case.body[0])
    return "assert_never" in text or "AssertionError" in text


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
