"""Which names of a program come from outside, and which it defines: the `~PY` sigil binds Elixir's variables to them."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence

from typhon import _eval

_BUILTINS = frozenset(dir(builtins))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.MatchAs, ast.ExceptHandler)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def scan(code: str) -> tuple[list[str], list[str]]:
    """(names that are used before the code defines them, names that it defines), in order of the alphabet."""
    scan = _Scan()
    # Compiled before it is parsed: what is wrong is said as an evaluation would, and the program waits there for its evaluation.
    for statement in ast.parse("".join(_eval.program_of(code, None, 1).lines)).body:
        scan.visit(statement)
    return sorted(scan.used - _BUILTINS), sorted(scan.module.names)


class _Block:
    """A scope, and what is bound there so far."""

    def __init__(self, kind: str, names: Iterable[str] = (), globals: Iterable[str] = ()) -> None:
        self.kind = kind
        self.names = set(names)
        self.globals = frozenset(globals)


class _Scan(ast.NodeVisitor):
    def __init__(self) -> None:
        self.used: set[str] = set()
        self.module = _Block("module")
        self.blocks = [self.module]

    # --- names ---

    def _use(self, name: str) -> None:
        innermost = self.blocks[-1]
        for block in reversed(self.blocks):
            if name in block.globals:
                break
            # A class' names are seen by its own statements alone.
            if name in block.names and (block.kind != "class" or block is innermost):
                return
        if name not in self.module.names:
            self.used.add(name)

    def _bind(self, name: str, leaves_comprehension: bool = False) -> None:
        block = self.blocks[-1]
        if leaves_comprehension:
            block = next(each for each in reversed(self.blocks) if each.kind != "comprehension")
        if block.kind == "handler":
            block = next(each for each in reversed(self.blocks) if each.kind != "handler")
        (self.module if name in block.globals else block).names.add(name)

    def _in(self, block: _Block, nodes: Iterable[ast.AST]) -> None:
        self.blocks.append(block)
        for node in nodes:
            self.visit(node)
        self.blocks.pop()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        else:
            self._use(node.id)

    # --- statements whose parts are evaluated in another order than they stand ---

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._use(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id, leaves_comprehension=True)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        for each in [*node.body, *node.orelse]:
            self.visit(each)

    visit_AsyncFor = visit_For

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.split(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                self._bind(alias.asname or alias.name)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        # Its name is gone behind it.
        self._in(_Block("handler", [node.name] if node.name else []), node.body)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.generic_visit(node)
        if node.name is not None:
            self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name is not None:
            self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest is not None:
            self._bind(node.rest)

    # --- scopes ---

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(node.decorator_list)
        parameters = _type_parameters(node)
        self._in(_Block("function", parameters), [*node.bases, *node.keywords])
        # Its methods may name it.
        self._bind(node.name)
        self.blocks.append(_Block("function", parameters))
        self._in(_Block("class"), node.body)
        self.blocks.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._visit_defaults(node.args)
        parameters = _type_parameters(node)
        annotations = [argument.annotation for argument in _arguments(node.args)] + [node.returns]
        self._in(_Block("function", parameters), [each for each in annotations if each is not None])
        # It may call itself.
        self._bind(node.name)
        # What it assigns may be there before, and then stays.
        for name in self._globals(node.body):
            self._use(name)
            self.module.names.add(name)
        self._in(_function(node, node.body, parameters), node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_defaults(node.args)
        self._in(_function(node, [node.body], []), [node.body])

    def visit_comprehension_expression(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        # The first iterable belongs to what is around it.
        self.visit(node.generators[0].iter)
        parts: list[ast.AST] = []
        for index, generator in enumerate(node.generators):
            parts += [generator.iter] * (index > 0) + [generator.target, *generator.ifs]
        parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._in(_Block("comprehension"), parts)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_expression

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _visit_defaults(self, arguments: ast.arguments) -> None:
        self._visit_all([*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)])

    @staticmethod
    def _globals(body: list[ast.stmt]) -> set[str]:
        return {name for node in _own(body) if isinstance(node, ast.Global) for name in node.names}


def _function(node: ast.AST, body: Sequence[ast.AST], parameters: list[str]) -> _Block:
    """A function's names are its own from its first line on, wherever they are assigned."""
    arguments: ast.arguments = node.args  # type: ignore[attr-defined]
    names = _Scan()
    block = _Block("function")
    names.blocks.append(block)
    own = list(_own(body))
    for each in own:
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            block.names.add(each.id)
        elif isinstance(each, (ast.Import, ast.ImportFrom, ast.MatchStar)):
            names.visit(each)
        elif isinstance(each, _NAMED) and each.name:
            block.names.add(each.name)
        elif isinstance(each, ast.MatchMapping) and each.rest:
            block.names.add(each.rest)
    globals = {name for each in own if isinstance(each, ast.Global) for name in each.names}
    elsewhere = {name for each in own if isinstance(each, ast.Nonlocal) for name in each.names}
    given = {argument.arg for argument in _arguments(arguments)} | set(parameters)
    return _Block("function", (block.names | given) - globals - elsewhere, globals)


def _own(body: Iterable[ast.AST]) -> list[ast.AST]:
    """What belongs to a function and to no function or class in there. Of comprehensions what `:=` binds."""
    found: list[ast.AST] = []
    left = list(body)
    while left:
        node = left.pop()
        found.append(node)
        if isinstance(node, _COMPREHENSIONS):
            left += [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
        elif not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            left += ast.iter_child_nodes(node)
    return found


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return found + [each for each in (arguments.vararg, arguments.kwarg) if each is not None]


def _type_parameters(node: ast.AST) -> list[str]:
    return [each.name for each in getattr(node, "type_params", [])]
