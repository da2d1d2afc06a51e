"""What `Typhon.render` and `Typhon.save` run: an object as HTML, as a picture, as text. Imported when the first one comes.

An object says itself what it looks like, by the methods that notebooks ask for: `_repr_mimebundle_`, `_repr_html_` and so on.
One that raises, or returns what it should not, is passed over.
"""

from __future__ import annotations

import sys
from itertools import islice
from types import CoroutineType

from typhon._native import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# In this order.
_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_latex_": "text/latex",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_pdf_": "application/pdf",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}
# Whoever has an attribute of this name has one of any name.
_CANARY = "_ipython_canary_method_should_not_exist_"
# What a file of this sort begins with.
_SIGNATURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
    "application/pdf": b"%PDF-",
}
_BINARY = ("image/", "audio/", "video/", "application/pdf", "application/octet-stream")
# Of a bundle.
_MOST_TYPES = 64
_LONGEST_TYPE = 255
# Of a failure in an error.
_SHOWN = 200

# What matplotlib and Pillow make of an object of theirs.
_FIGURES = {
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    "application/pdf": "pdf",
    "application/postscript": "eps",
}
_IMAGES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "application/pdf": "PDF",
}


def render(target: Any) -> list[tuple[bytes, bytes]]:
    """Each representation that there is, by its MIME type. Raises what `repr()` raises when there is none."""
    found = _Found(target)
    found.collect()
    if not found.data:
        raise found.failed["repr" if "repr" in found.failed else "text/plain"]
    return [(mime.encode(), data) for mime, data in found.data.items()]


def save(target: Any, mime: str) -> bytes | tuple[list[str], list[str]]:
    """One representation; or those that there are instead, and what failed."""
    if (figure := _figure(target)) is not None and mime in _FIGURES:
        return _drawn(figure, _FIGURES[mime])
    if _is_of(target, "PIL.Image", "Image") and mime in _IMAGES:
        return _picture(target, _IMAGES[mime])
    found = _Found(target)
    found.collect()
    if mime in found.data:
        return found.data[mime]
    return list(found.data), [f"{name}: {_described(error)}" for name, error in found.failed.items()]


class _Found:
    def __init__(self, target: Any) -> None:
        self.target = target
        self.data: dict[str, bytes] = {}
        self.failed: dict[str, BaseException] = {}

    def collect(self) -> None:
        if not issubclass(type(self.target), type) and self._own(_CANARY) is None:
            self._take_bundle()
            for name, mime in _METHODS.items():
                # One of the two is enough.
                if mime not in self.data and not (name == "_repr_jpeg_" and "image/png" in self.data):
                    self._take(mime, self._ask(name))
            self._take_known()
        if "text/plain" not in self.data:
            self._take("text/plain", self._try("repr", repr, self.target))

    def _take_bundle(self) -> None:
        bundle = _without_metadata(self._ask("_repr_mimebundle_", include=None, exclude=None))
        if type(bundle) is dict:
            for mime, data in islice(list(bundle.items()), _MOST_TYPES):
                if type(mime) is str and "/" in mime and len(mime) <= _LONGEST_TYPE and mime.isascii():
                    self._take(mime, data)

    def _take_known(self) -> None:
        """Of what is common, and shows no more than its repr()."""
        if "image/png" not in self.data and (figure := self._try("figure", _figure, self.target)) is not None:
            self._take("image/png", self._try("savefig", _drawn, figure, "png"))
        if "text/html" not in self.data and _is_of(self.target, "pandas", "Series"):
            self._take("text/html", self._try("to_frame", lambda: self.target.to_frame()._repr_html_()))

    def _take(self, mime: str, data: Any) -> None:
        if data is not None:
            made = self._try(mime, _encoded, mime, _without_metadata(data))
            if made is not None:
                self.data[mime] = made

    def _own(self, name: str) -> Any:
        return self._try(name, getattr, self.target, name, None)

    def _ask(self, name: str, **kwargs: Any) -> Any:
        method = self._own(name)
        return self._try(name, method, **kwargs) if callable(method) else None

    def _try(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            value = function(*args, **kwargs)
        except Cancelled:
            raise
        except BaseException as error:
            self.failed[name] = error
            return None
        if type(value) is CoroutineType:
            value.close()
            return None
        return value


def _without_metadata(data: Any) -> Any:
    return data[0] if type(data) is tuple and len(data) == 2 else data


def _encoded(mime: str, data: Any) -> bytes:
    """As a file of this type has it. Raises when it is no such thing."""
    if isinstance(data, str):
        data = str.__str__(data)  # not what a class makes of its own
    if mime == "application/json" or mime.endswith("+json"):
        return _json(data)
    if isinstance(data, list) and all(isinstance(line, str) for line in data):
        data = "".join(data)  # as notebooks keep text
    if mime.startswith(_BINARY) and not mime.endswith("+xml"):
        return _unpacked(mime, data)
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"{mime} is text or bytes, not {type(data).__name__}")
    made = bytes(data)
    if mime.startswith("text/") or mime.endswith(("+xml", "/xml", "/javascript")):
        made.decode()
    return made


def _json(data: Any) -> bytes:
    import json

    if isinstance(data, (bytes, bytearray)):
        data = data.decode()
    if isinstance(data, str):
        try:
            json.loads(data, parse_constant=_no_json)
            return data.encode()
        except ValueError:
            pass
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()


def _no_json(name: str) -> None:
    """NaN and the infinities, which Python reads and writes and nobody else."""
    raise ValueError(f"{name} is no JSON")


def _unpacked(mime: str, data: Any) -> bytes:
    """As it is, or out of Base64."""
    signature = _SIGNATURES.get(mime, b"")
    if isinstance(data, str):
        raw = data.encode("ascii")
    elif isinstance(data, (bytes, bytearray, memoryview)):
        raw = bytes(data)
        if raw.startswith(signature):
            return raw
    else:
        raise TypeError(f"{mime} is bytes, or a str of Base64, not {type(data).__name__}")
    from base64 import b64decode

    made = b64decode(b"".join(raw.split()), validate=True)
    if not made.startswith(signature):
        raise ValueError(f"these bytes are not {mime}")
    return made


def _described(error: BaseException) -> str:
    text = str(type.__getattribute__(type(error), "__name__"))
    try:
        text = f"{text}: {error}"
    except Cancelled:
        raise
    except BaseException:
        pass
    return text[:_SHOWN].encode("utf-8", "backslashreplace").decode()


# --- what is common ---


def _is_of(target: Any, module: str, name: str) -> bool:
    """Whoever has an object of a class has imported it."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and issubclass(type(target), kind)


def _figure(target: Any) -> Any:
    """A figure of matplotlib's, or the one that this is a part of."""
    if _is_of(target, "matplotlib.figure", "Figure"):
        return target
    if not _is_of(target, "matplotlib.artist", "Artist"):
        return None
    figure = target.figure
    if _is_of(figure, "matplotlib.figure", "SubFigure"):
        figure = figure.figure
    return figure if _is_of(figure, "matplotlib.figure", "Figure") else None


def _drawn(figure: Any, form: str) -> bytes:
    from io import BytesIO

    file = BytesIO()
    figure.savefig(file, format=form, bbox_inches="tight")
    return file.getvalue()


def _picture(image: Any, form: str) -> bytes:
    from io import BytesIO

    # JPEG has no transparency.
    if form == "JPEG" and image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    file = BytesIO()
    image.save(file, format=form)
    return file.getvalue()
