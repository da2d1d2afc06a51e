"""What to do about an exception that a mistake leads to which many make. Imported when such an exception has to cross.

Each hint is a sentence or two for whoever reads the error in Elixir, where they become notes of the exception.
"""

import os
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What a package is called where it can be installed, when its modules have another name.
_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "Crypto": "pycryptodome",
    "fitz": "PyMuPDF",
    "google": "protobuf",
    "jwt": "PyJWT",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "yaml": "PyYAML",
}
_MOST_FOLDERS = 12
# What typhon._extensions marks its own refusals with.
REFUSED = "_typhon_refused"
# What an exception is marked with that has its hints.
NOTED = "_typhon_noted"
_ALIAS = "Elixir."


def of(error: BaseException, module: object = None, function: object = None) -> "list[str]":
    """Hints for `error`, which the call of `function` in `module` raised, if it was a call. Never raises."""
    try:
        return list(_hints(error, module, function))
    except Exception:
        return []


def text(error: BaseException) -> str:
    """The error and its hints, for a sentence that goes on with them. Of one that a package has wrapped: why that was."""
    refused: BaseException | None = error
    while refused is not None and not getattr(refused, REFUSED, False):
        refused = refused.__cause__ or refused.__context__
    cause = refused or error
    return ". ".join([f"{type(cause).__name__}: {cause}", *of(error)])


def _hints(error: BaseException, module: object, function: object) -> "Iterator[str]":
    name = _missing(error)
    if name is not None and name.split(".")[0] == "Elixir":
        yield _alias(module if isinstance(module, str) else "")
        return
    shadow = _shadow(error)
    if shadow is not None:
        yield shadow
    elif name is not None:
        yield from _not_a_module(name, module, function) or _not_installed(name)


def _missing(error: BaseException) -> "str | None":
    return error.name if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str) else None


def _alias(module: str) -> str:
    alias = module.removeprefix(_ALIAS) if module.startswith(_ALIAS) else ""
    if not alias:
        return "A name that begins with a capital letter is an alias in Elixir. Name a Python module by an atom such as :math, or a string"
    return (
        f'{alias} is an alias in Elixir, the atom :"{module}". Name a Python module by an atom or a string: '
        f'{_atom(alias.lower())} or "{alias}"'
    )


def _not_a_module(name: str, module: object, function: object) -> "list[str]":
    """`datetime.datetime`: an attribute of a module, which belongs to the function's name."""
    names = name.split(".")
    for count in range(len(names) - 1, 0, -1):
        found = sys.modules.get(".".join(names[:count]))
        if found is None:
            continue
        value: object = found
        for attribute in names[count:]:
            if not hasattr(value, attribute):
                return []
            value = getattr(value, attribute)
        parent, rest = ".".join(names[:count]), ".".join(names[count:])
        path = f"{rest}.{function}" if module == name and isinstance(function, str) else f"{rest}.…"
        return [f'{name} is no module: it is an attribute of the module {parent}. Call {_atom(parent)}, "{path}"']
    return []


def _not_installed(name: str) -> "Iterator[str]":
    top = name.split(".")[0]
    if top in sys.modules or not top.isidentifier():
        return
    if top in sys.stdlib_module_names:
        yield f"{top} belongs to Python's standard library, but {_who()} was built or packaged without it"
        return
    yield f"{_who()} looked for it in {_folders()}"
    yield _install(_DISTRIBUTIONS.get(top), top)
    yield "A module of your own is found when python_path: names the folder that it is in"


def _install(known: "str | None", name: str) -> str:
    distribution = known or name
    # A name that is mistyped is one that somebody may have published something under.
    sure = "" if known else f"Check that the name is right, and that {name} is the package you mean. "
    if sys.prefix == sys.base_prefix and os.path.exists(os.path.join(_stdlib(), "EXTERNALLY-MANAGED")):
        return (
            f"{sure}This Python is the operating system's, where pip installs nothing. Make a virtualenv ({sys.executable} -m venv .venv), "
            f'install the package there (.venv/bin/python -m pip install {distribution}), and start the pool with python: ".venv"'
        )
    return f"{sure}To install the package there: {sys.executable} -m pip install {distribution}"


def _shadow(error: BaseException) -> "str | None":
    """A file that is found in place of a module of the standard library, when the error is about that module."""
    if isinstance(error, ImportError):
        name = error.name
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    else:
        return None
    top = name.split(".")[0] if isinstance(name, str) else ""
    file = shadowing(top)
    if file is None:
        return None
    return (
        f"{file} has the name of the module {top} of Python's standard library, and is found in its place: by all modules, "
        "also those of the library. Give it another name, or put it into a package"
    )


def shadowing(name: str) -> "str | None":
    """The file of a loaded module that has the name of one of Python's own, and is none of them."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file if name in sys.stdlib_module_names and isinstance(file, str) and not _is_stdlib(file) else None


def _is_stdlib(file: str) -> bool:
    folder = os.path.join(_stdlib(), "")
    return file.startswith(folder) and "site-packages" not in file[len(folder) :]


def _stdlib() -> str:
    return os.path.dirname(os.__file__)


def _who() -> str:
    return f"{sys.executable} (Python {sys.version.split()[0]})"


def _folders() -> str:
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = [path for path in sys.path if path and path != own]
    shown = ", ".join(folders[:_MOST_FOLDERS])
    return shown if len(folders) <= _MOST_FOLDERS else f"{shown} and {len(folders) - _MOST_FOLDERS} more"


def _atom(name: str) -> str:
    return f":{name}" if name.isascii() and name.isidentifier() else f':"{name}"'
