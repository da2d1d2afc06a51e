"""What Elixir's compiler asks a Python about code that it has not run: python -I _outline.py names|functions IN OUT …

A program of its own, for any Python from 3.11 on: nothing of Typhon is imported, and nothing that is asked about. The answer is a
term in the External Term Format in the file OUT, where what site customisations print is not in the way. See Typhon.Outline.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import struct
import sys
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NONE: frozenset[str] = frozenset()
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _sibling(name: str) -> Any:
    """A module beside this file, without its package."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the names that code reads and assigns ---


def names(code: str, file: str, line: int) -> dict[str, Any]:
    """Raises SyntaxError. A name is read if code may find it before it has assigned it."""
    source = _sibling("_source").Source(code, file, line)
    reads: set[str] = set()
    _flow(source.tree.body, set(), reads)
    bound, declared = _bound(source.tree.body)
    assigned = bound | declared | _declared_below(source.tree)
    source.steps()
    return {"reads": sorted(reads), "assigns": sorted(assigned)}


def _flow(body: Iterable[ast.stmt], defined: set[str], reads: set[str]) -> set[str]:
    """The statements of a module, in order. Gives the names that are there for sure when they have run."""
    for statement in body:
        defined = _statement(statement, set(defined), reads)
    return defined


def _statement(node: ast.stmt, defined: set[str], reads: set[str]) -> set[str]:
    def read(*parts: ast.AST | None) -> None:
        for part in parts:
            if part is not None:
                reads.update(_reads(part, _NONE) - defined)

    match node:
        case ast.If() | ast.While():
            read(node.test)
            after = _flow(node.body, defined, reads)
            other = _flow(node.orelse, defined, reads)
            return after & other if isinstance(node, ast.If) else defined
        case ast.For() | ast.AsyncFor():
            read(node.iter, node.target)
            _flow(node.body, defined | _bound([node.target])[0], reads)
            _flow(node.orelse, defined, reads)
            return defined
        case ast.With() | ast.AsyncWith():
            for item in node.items:
                read(item.context_expr, item.optional_vars)
                if item.optional_vars is not None:
                    defined |= _bound([item.optional_vars])[0]
            # It may swallow an exception.
            _flow(node.body, defined, reads)
            return defined
        case ast.Try() | ast.TryStar():
            after = _flow([*node.body, *node.orelse], defined, reads)
            for handler in node.handlers:
                read(handler.type)
                caught = {handler.name} if handler.name else set()
                after &= _flow(handler.body, defined | caught, reads) - caught
            _flow(node.finalbody, defined, reads)
            return after
        case ast.Match():
            read(node.subject)
            for case in node.cases:
                read(case.pattern)
                taken = defined | _bound([case.pattern])[0]
                reads.update(_reads(case.guard, _NONE) - taken if case.guard else ())
                _flow(case.body, taken, reads)
            return defined
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            reads.update(_reads(node, _NONE) - defined - ({node.name} if isinstance(node, _FUNCTIONS) else set()))
            return defined | {node.name}
        case ast.Delete():
            read(node)
            return defined - _bound([node])[0]
        case ast.AnnAssign(value=None):
            read(node)
            return defined
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Import() | ast.ImportFrom():
            read(node)
            return defined | _bound([node])[0]
        case _:
            read(node)
            return defined


def _reads(node: ast.AST, hidden: frozenset[str]) -> set[str]:
    """The names of the module that it reads; `hidden` are those of the functions around it."""
    if isinstance(node, ast.Name):
        return set() if isinstance(node.ctx, ast.Store) or node.id in hidden else {node.id}
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return ({node.target.id} - hidden) | _reads(node.value, hidden)
    if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        return _reads_of_function(node, hidden)
    if isinstance(node, _COMPREHENSIONS):
        return _reads_of_comprehension(node, hidden)
    if isinstance(node, ast.ClassDef):
        hidden |= _type_params(node)
        # Its own names hide nothing: what it reads may be there before.
        return _all([*node.decorator_list, *node.bases, *node.keywords, *node.body, *getattr(node, "type_params", ())], hidden)
    if type(node).__name__ == "TypeAlias":
        hidden |= _type_params(node)
    return _all(ast.iter_child_nodes(node), hidden)


def _all(nodes: Iterable[ast.AST], hidden: frozenset[str]) -> set[str]:
    return set().union(*(_reads(node, hidden) for node in nodes))


def _reads_of_function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, hidden: frozenset[str]) -> set[str]:
    arguments = node.args
    defaults = [*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)]
    parameters = _parameters(arguments)
    found = set()
    body: list[ast.AST]
    if isinstance(node, ast.Lambda):
        body = [node.body]
    else:
        body = [*node.body]
        generic = hidden | _type_params(node)
        annotations = [each.annotation for each in parameters if each.annotation is not None]
        returns = [node.returns] if node.returns is not None else []
        found = _all(node.decorator_list, hidden) | _all([*annotations, *returns, *getattr(node, "type_params", ())], generic)
    bound, declared = _bound(body)
    inner = hidden | _type_params(node) | {each.arg for each in parameters} | bound
    return found | _all(defaults, hidden) | _all(body, inner - declared)


def _reads_of_comprehension(node: ast.AST, hidden: frozenset[str]) -> set[str]:
    generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
    # The first is what the code around it sees.
    found = _reads(generators[0].iter, hidden)
    inner = hidden | {each.id for part in generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
    parts: list[ast.AST] = [part for each in generators for part in (each.target, *each.ifs)]
    parts += [each.iter for each in generators[1:]]
    results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]  # type: ignore[attr-defined]
    return found | _all([*parts, *results], inner)


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    several = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *several]


def _type_params(node: ast.AST) -> frozenset[str]:
    return frozenset(each.name for each in getattr(node, "type_params", ()))


def _bound(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """The names that these bind in the scope they stand in; and those that they say are global."""
    bound: set[str] = set()
    declared: set[str] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.add(name)
            case ast.Global():
                declared.update(node.names)
            case ast.Import() | ast.ImportFrom():
                bound.update((each.asname or each.name.split(".")[0]) for each in node.names if each.name != "*")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
                left += node.decorator_list
                continue
            case ast.Lambda():
                left += node.args.defaults
                continue
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
        if isinstance(node, ast.comprehension):
            # Its target is its own; what `:=` binds there is not.
            left += [node.iter, *node.ifs]
        else:
            left += ast.iter_child_nodes(node)
    return bound - declared, declared


def _declared_below(tree: ast.AST) -> set[str]:
    """What functions assign to the module."""
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


# --- the answer ---


def _etf(value: Any) -> bytes:
    if value is None or value is True or value is False:
        name = b"nil" if value is None else str(value).lower().encode()
        return b"w" + bytes([len(name)]) + name
    if isinstance(value, int):
        return b"b" + struct.pack(">i", value)
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        return b"m" + struct.pack(">I", len(text)) + text
    if isinstance(value, dict):
        pairs = b"".join(_etf(key) + _etf(each) for key, each in value.items())
        return b"t" + struct.pack(">I", len(value)) + pairs
    if not value:
        return b"j"
    return b"l" + struct.pack(">I", len(value)) + b"".join(map(_etf, value)) + b"j"


def _syntax_error(error: SyntaxError) -> dict[str, Any]:
    return {
        "line": error.lineno,
        "type": type(error).__name__,
        "message": error.msg,
        "text": error.text and error.text.rstrip("\r\n"),
        "offset": error.offset,
        "notes": list(getattr(error, "__notes__", ())),
    }


def _answer(what: str, source: str, rest: list[str]) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        return {"too_old": sys.version.split()[0]}
    try:
        with open(source, encoding="utf-8", newline="") as file:
            return names(file.read(), rest[0], int(rest[1]))
    except SyntaxError as error:
        return {"syntax_error": _syntax_error(error)}
    except (RecursionError, MemoryError):
        return {"too_deep": True}


def main(what: str, source: str, out: str, *rest: str) -> None:
    answer = {**_answer(what, source, list(rest)), "python": f"Python {sys.version.split()[0]}, {sys.executable}"}
    with open(out, "wb") as file:
        file.write(b"\x83" + _etf(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
