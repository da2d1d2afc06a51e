"""Python code, from its text to the steps that run. Of the standard library alone: _outline, which has nothing of Typhon's around
it, takes it, too.

A program is a row of steps. Statements are compiled as a module's; the last one is an expression's value, if it is one. A
statement in which a `return` stands is compiled as the body of a function whose names are all global: so `return` ends the
program in whatever block it stands, `finally` included, and what is assigned there is found by what comes after it.
"""

from __future__ import annotations

import __future__ as future
import ast
import inspect
from collections.abc import Iterator
from types import CodeType

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FUTURES = sum(getattr(future, name).compiler_flag for name in future.all_feature_names)
_LOCALS = inspect.CO_OPTIMIZED | inspect.CO_NEWLOCALS
# Of a line of the source an error quotes so many characters.
_LONG_LINE = 200
# What begins a scope of its own: a `return` in there is none of the program's.
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Source:
    """Code that has been parsed. Its constructor raises the SyntaxError of what cannot be."""

    def __init__(self, code: str, file: str | None, line: int) -> None:
        text, self._hint = _normal(code)
        own_name = _name(code, line)
        self.file = file or own_name
        self.line = line
        self.lines = [each + "\n" for each in text.split("\n")]
        try:
            if "\0" in text:
                raise _null(text, self.file, line)
            self.tree = _parse(text, line, self.file, own_name)
        except BaseException as error:
            self._explain(error)
            raise

    def steps(self) -> list[tuple[CodeType, bool]]:
        """What there is to run; takes the tree apart."""
        try:
            return _steps(self.tree, self.file)
        except BaseException as error:
            if isinstance(error, SyntaxError):
                _quote(error, self.lines, self.line)
            self._explain(error)
            raise

    def _explain(self, error: BaseException) -> None:
        if isinstance(error, SyntaxError):
            _shorten(error)
            hint = self._hint
            if hint is None and isinstance(error, TabError):
                hint = "Indent all of the code by tabs, or all of it by spaces."
            if hint is not None:
                error.add_note(hint)
        elif isinstance(error, (RecursionError, MemoryError)):
            error.add_note(
                "An expression of this code nests deeper than Python's compiler can follow: split it into several. Data go into bindings."
            )


def _name(code: str, line: int) -> str:
    """The same of the same code in each worker, and of no other: tracebacks find lines by it."""
    # hashlib would load OpenSSL, too.
    from _blake2 import blake2b

    return f"<eval {blake2b(f'{line}:{code}'.encode(), digest_size=8).hexdigest()}>"


def _parse(text: str, line: int, name: str, own_name: str) -> ast.Module:
    def parse(name: str) -> ast.Module:
        tree = compile("\n" * (line - 1) + text, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        return tree

    try:
        return parse(name)
    except SyntaxError:
        if name == own_name:
            raise
    # It has quoted the file of this name, if there is one, which may have other lines.
    try:
        return parse(own_name)
    except SyntaxError as error:
        error.filename = name
        raise


# --- the text ---


def _normal(code: str) -> tuple[str, str | None]:
    """The code without what its place in another file has added to it; and what may be wrong with its indentation."""
    text = code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    first = next((each for each in lines if (bare := each.strip(" \t\f")) and not bare.startswith("#")), "")
    margin = first[: len(first) - len(first.lstrip(" \t"))]
    if not margin:
        return text, None
    # A line with less of it is none of the code's: part of a string, or of a comment.
    kept = [each.removeprefix(margin) if each.startswith(margin) else each.lstrip(" \t") and each for each in lines]
    other = "\t" if " " in margin else " "
    mixed = next((number for number, each in enumerate(lines, 1) if each.strip() and each.startswith(other)), None)
    hint = None
    if mixed is not None or len(set(margin)) > 1:
        hint = (
            f"The code begins with lines that are indented by {_named(margin)}"
            + (f", and line {mixed} of it by {_named(other)}" if mixed is not None else "")
            + ". Indent all of it by the same characters: what all lines have in common is taken off."
        )
    return "\n".join(kept), hint


def _named(margin: str) -> str:
    return "tabs and spaces" if len(set(margin)) > 1 else "tabs" if margin[0] == "\t" else "spaces"


def _null(text: str, file: str, line: int) -> SyntaxError:
    before = text[: text.index("\0")]
    row, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
    shown = text.split("\n")[row].replace("\0", "\N{SYMBOL FOR NULL}")
    message = "the code has a NUL, the character of the number 0, which Python's source cannot have: write \\0 in a string"
    return SyntaxError(message, (file, line + row, column + 1, shown, line + row, column + 2))


def _quote(error: SyntaxError, lines: list[str], line: int) -> None:
    """Of an error that the parser does not find: the compiler would quote the file, if there is one, and what it counts are bytes."""
    row = (error.lineno or 0) - line
    if not 0 <= row < len(lines):
        return
    error.text = text = lines[row]
    if error.offset is not None:
        error.offset = _characters(text, error.offset)
    if error.end_offset is not None and error.end_lineno == error.lineno:
        error.end_offset = _characters(text, error.end_offset)


def _shorten(error: SyntaxError) -> None:
    """Of a long line what is around the place."""
    text, offset = error.text, error.offset
    if text is None or len(text) <= _LONG_LINE:
        return
    begin = max((offset or 1) - 1 - _LONG_LINE // 2, 0)
    error.text = text[begin : begin + _LONG_LINE]
    if offset is not None:
        error.offset = offset - begin
    if error.end_offset is not None and error.end_lineno == error.lineno:
        error.end_offset = min(error.end_offset - begin, _LONG_LINE)


def _characters(text: str, offset: int) -> int:
    return len(text.encode()[: max(offset - 1, 0)].decode(errors="ignore")) + 1


# --- the steps ---


def _steps(tree: ast.Module, file: str) -> list[tuple[CodeType, bool]]:
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    steps: list[tuple[CodeType, bool]] = []
    flags = _AWAIT
    waiting: list[ast.stmt] = []

    def compile_waiting() -> None:
        nonlocal flags
        if waiting:
            code: CodeType = compile(ast.Module(waiting[:], []), file, "exec", flags, dont_inherit=True)
            flags |= code.co_flags & _FUTURES
            steps.append((code, False))
            waiting.clear()

    for statement in tree.body:
        if _returns(statement):
            compile_waiting()
            steps.append((_as_function(statement, file, flags), True))
        else:
            waiting.append(statement)
    compile_waiting()
    if isinstance(last, ast.Expr):
        steps.append((compile(ast.Expression(last.value), file, "eval", flags, dont_inherit=True), False))
    return steps


def _returns(statement: ast.stmt) -> bool:
    """Whether it has a `return` of the program's. With a `yield` it would be a generator: the compiler refuses that."""
    kinds = {type(node) for node in _own(statement)}
    return ast.Return in kinds and not kinds & {ast.Yield, ast.YieldFrom}


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    left: list[ast.AST] = [statement]
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, _SCOPES):
            left.extend(ast.iter_child_nodes(node))


def _awaits(node: ast.AST) -> bool:
    return isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)) or (isinstance(node, ast.comprehension) and bool(node.is_async))


def _as_function(statement: ast.stmt, file: str, flags: int) -> CodeType:
    """Gives a tuple of what is returned, or None."""
    kind = ast.AsyncFunctionDef if any(map(_awaits, _own(statement))) else ast.FunctionDef
    whole = ast.Module([statement], [])
    _Returns().visit(whole)
    code = _function(kind, whole.body, file, flags)
    names = [*code.co_varnames, *code.co_cellvars]
    if names:
        code = _function(kind, [ast.Global(names), *whole.body], file, flags)
    # So that locals() and exec() see the names, too.
    return code.replace(co_flags=code.co_flags & ~_LOCALS)


def _function(kind: type, body: list[ast.stmt], file: str, flags: int) -> CodeType:
    arguments = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    function = kind(name="<module>", args=arguments, body=body, decorator_list=[], type_params=[])
    ast.copy_location(function, body[-1])
    module = ast.fix_missing_locations(ast.Module([function], []))
    compiled: CodeType = compile(module, file, "exec", flags & ~_AWAIT, dont_inherit=True)
    return next(constant for constant in compiled.co_consts if isinstance(constant, CodeType))


def _moved(new: ast.AST, old: ast.AST) -> ast.AST:
    for node in ast.walk(new):
        ast.copy_location(node, old)
    return new


class _Returns(ast.NodeTransformer):
    """Makes tuples of what is returned, and of annotated assignments plain ones: a name that is global has no annotation."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _SCOPES):
            return node
        if isinstance(node, ast.Return):
            value = ast.Tuple([node.value or ast.Constant(None)], ast.Load())
            return ast.copy_location(ast.Return(value), node)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            plain = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
            return ast.copy_location(plain, node)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            # No function may have it.
            source = f"exec('from {'.' * node.level}{node.module or ''} import *', globals())"
            taken = ast.parse(source).body[0]
            return _moved(taken, node)
        self.generic_visit(node)
        return node
