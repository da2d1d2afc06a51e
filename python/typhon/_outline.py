"""What Elixir's compiler asks a Python about code that it has not run: python -I _outline.py QUESTION IN OUT …

A program of its own, for any Python from 3.11 on: nothing of Typhon is imported, and nothing that is asked about. The answer is a
term in the External Term Format in the file OUT, where what site customisations print is not in the way. See Typhon.Outline.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import struct
import sys
import tokenize
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NONE: frozenset[str] = frozenset()
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What nests deeper than this in an annotation makes no type.
_DEEPEST = 50


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


# --- the functions of a module ---


def functions(text: str, file: str, line: int) -> dict[str, Any]:
    """Of a block of code. Raises SyntaxError."""
    source = _sibling("_source").Source(text, file, line)
    found = _functions_of(source.tree)
    source.steps()
    return found


def _functions_of(tree: ast.Module) -> dict[str, Any]:
    """Those that a module has for others, as it stands. Of several with one name the last one counts, as for Python."""
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    named: list[str] | None = None
    for statement in _top_level(tree.body):
        if isinstance(statement, _FUNCTIONS):
            if not any(_last_name(each) == "overload" for each in statement.decorator_list):
                found[statement.name] = statement
        elif isinstance(statement, ast.ClassDef):
            # Its name is a function's no more.
            found.pop(statement.name, None)
        elif isinstance(statement, ast.Assign) and "__all__" in map(_last_name, statement.targets):
            named = _strings(statement.value)
    public = [name for name in found if (name in named if named is not None else not name.startswith("_"))]
    return {"functions": [_function(found[name]) for name in public], "doc": ast.get_docstring(tree)}


def _top_level(body: list[ast.stmt]) -> Iterable[ast.stmt]:
    """In order, with what stands below an `if`, a `try` or a `with`. Each `elif` is one level deeper."""
    left = body[::-1]
    while left:
        statement = left.pop()
        yield statement
        if isinstance(statement, (ast.If, ast.Try, ast.TryStar, ast.With)):
            handled = [each for handler in getattr(statement, "handlers", ()) for each in handler.body]
            below = [*statement.body, *handled, *getattr(statement, "orelse", ()), *getattr(statement, "finalbody", ())]
            left += below[::-1]


def _strings(node: ast.expr) -> list[str] | None:
    """A literal list of strings; None: it is something else."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    return [each for each in value if isinstance(each, str)] if isinstance(value, (list, tuple, set)) else None


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    alone = len(arguments.posonlyargs)
    parameters = [
        *(_parameter(each, default, "alone") for each, default in zip(plain[:alone], defaults[:alone], strict=True)),
        *(_parameter(each, default, "plain") for each, default in zip(plain[alone:], defaults[alone:], strict=True)),
        *(_parameter(each, default, "named") for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)),
    ]
    # What decorates a generator may make something else of it: a context manager.
    yields = not node.decorator_list and _yields(node)
    return {
        "name": node.name,
        "line": node.lineno,
        "kind": "stream" if yields else "call",
        "parameters": parameters,
        "several": arguments.vararg and _parameter(arguments.vararg, None, "several"),
        "any": arguments.kwarg is not None,
        "returns": _annotation(node.returns),
        "signature": f"{node.name}({_signature(arguments)})" + (f" -> {_text(node.returns)}" if node.returns else ""),
        "doc": ast.get_docstring(node),
    }


def _parameter(node: ast.arg, default: ast.expr | None, kind: str) -> dict[str, Any]:
    return {"name": node.arg, "kind": kind, "required": default is None, "type": _annotation(node.annotation)}


def _signature(arguments: ast.arguments) -> str:
    try:
        return ast.unparse(arguments)
    except (RecursionError, ValueError):
        pass
    for each in _parameters(arguments):
        each.annotation = each.annotation and _short(each.annotation)
    arguments.defaults = [_short(each) for each in arguments.defaults]
    arguments.kw_defaults = [each and _short(each) for each in arguments.kw_defaults]
    return ast.unparse(arguments)


def _short(node: ast.expr) -> ast.expr:
    return ast.Name(_text(node), ast.Load())


def _text(node: ast.expr) -> str:
    """`...` for what nests deeper than can be written out. Python's compiler follows further than that."""
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):
        return "..."


def _yields(node: ast.AST) -> bool:
    left = list(ast.iter_child_nodes(node))
    while left:
        each = left.pop()
        if isinstance(each, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(each, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            left += ast.iter_child_nodes(each)
    return False


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def _annotation(node: ast.expr | None) -> list[Any] | None:
    """The type that it is, or None, as also for what nests too deep to be anybody's type."""
    level: list[ast.AST] = [] if node is None else [node]
    for _ in range(_DEEPEST):
        level = [child for each in level for child in ast.iter_child_nodes(each)]
        if not level:
            return _type(node)
    return None


def _type(node: ast.expr | None) -> list[Any] | None:
    """A type as its name, without where that comes from, and what stands in the brackets behind it. None: it is not known."""
    if isinstance(node, ast.Constant):
        if node.value is None:
            return ["None"]
        if node.value is ...:
            return ["..."]
        if isinstance(node.value, str):
            try:
                return _annotation(ast.parse(node.value, mode="eval").body)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return ["Union", _type(node.left), _type(node.right)]
    if isinstance(node, ast.Subscript):
        name = _last_name(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return [name, *([] if name == "Literal" else map(_type, inner))] if name else None
    name = _last_name(node) if isinstance(node, (ast.Name, ast.Attribute)) else None
    return [name] if name else None


def _source_of(module: str) -> str:
    """The file of a module, found as an import finds it; no package above it is imported. Raises LookupError."""
    path: Any = None
    spec = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        found = (finder.find_spec(name, path, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            raise LookupError(
                f"there is no module {name} on the path of {sys.executable}; config :typhon, compile_python: names another Python, "
                "as python: of a pool does"
            )
        path = spec.submodule_search_locations
        if path is None and count < len(parts):
            raise LookupError(f"{name} is no package, and so has no module {parts[count]}")
    origin = spec.origin if spec is not None else None
    if origin is None or not origin.endswith(".py") or not os.path.isfile(origin):
        origin = _stdlib_source(module)
    if origin is None:
        raise LookupError(f"{module} has no source in Python that could be read")
    return origin


def _stdlib_source(module: str) -> str | None:
    """Of a module that is frozen into the interpreter."""
    base = os.path.join(os.path.dirname(os.__file__), *module.split("."))
    return next((path for path in (base + ".py", os.path.join(base, "__init__.py")) if os.path.isfile(path)), None)


def _functions_of_file(path: str) -> dict[str, Any]:
    try:
        with tokenize.open(path) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        return {"refused": f"{path} is not in the encoding that it says, or UTF-8: {error}"}
    compile(text, path, "exec", dont_inherit=True)
    return {**_functions_of(ast.parse(text, path)), "path": path}


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
        "file": error.filename,
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
            text = file.read()
        if what == "names":
            return names(text, rest[0], int(rest[1]))
        if what == "functions":
            return functions(text, rest[0], int(rest[1]))
        if what == "functions_of_file":
            return _functions_of_file(text)
        module, *folders = text.split("\0")
        sys.path[:0] = folders
        return _functions_of_file(_source_of(module))
    except SyntaxError as error:
        return {"syntax_error": _syntax_error(error)}
    except (OSError, LookupError) as error:
        return {"refused": str(error)}
    except (RecursionError, MemoryError):
        if what == "names":
            return {"too_deep": True}
        return {"refused": "an expression of the code nests deeper than Python's compiler can follow"}


def main(what: str, source: str, out: str, *rest: str) -> None:
    answer = {**_answer(what, source, list(rest)), "python": f"Python {sys.version.split()[0]}, {sys.executable}"}
    with open(out, "wb") as file:
        file.write(b"\x83" + _etf(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
