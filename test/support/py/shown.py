"""Objects that say what they look like, and such as say it badly."""

import asyncio
import base64
import time

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"


class Rich:
    """Each of `methods` is a method: its name without _repr_ and _, and what it returns, or raises."""

    def __init__(self, methods, text="Rich()"):
        self.text = text
        for name, value in methods.items():
            setattr(self, name if name.startswith("_") else f"_repr_{name}_", self._method(value))

    def _method(self, value):
        def method(**_):
            if isinstance(value, BaseException):
                raise value
            return value() if callable(value) else value

        return method

    def __repr__(self):
        if isinstance(self.text, BaseException):
            raise self.text
        return self.text


class Bytes(bytes):
    def startswith(self, *_):
        return True


class Text(str):
    def encode(self, *_):
        return 5


class Anything:
    """Has whatever attribute it is asked for."""

    def __getattr__(self, name):
        return lambda *_, **__: "<b>anything</b>"

    def __repr__(self):
        return "Anything()"


class Refusing:
    def __getattr__(self, name):
        raise RuntimeError(name)

    @property
    def __class__(self):
        raise RuntimeError("__class__")

    def __repr__(self):
        return "Refusing()"


class OnClass:
    def _repr_html_(self):
        return "<b>instance</b>"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": "by the bundle", "text/markdown": "**instance**"}, {"text/plain": {"size": 1}}


def every():
    return Rich(
        {
            "html": "<b>ü</b>",
            "markdown": "**b**",
            "latex": ("$x$", {"isolated": True}),
            "svg": SVG,
            "png": PNG,
            "jpeg": b"\xff\xd8\xff",
            "pdf": base64.b64encode(b"%PDF-1.7").decode(),
            "json": {"a": [1, None, "ü"]},
            "javascript": "1 + 1",
        }
    )


def bundle():
    png = base64.encodebytes(PNG).decode()
    return Rich(
        {
            "mimebundle": (
                {
                    "image/png": png,
                    "image/gif": memoryview(b"GIF89a"),
                    "application/vnd.chart.v5+json": {"mark": "bar"},
                    "application/json": '{"a": 1}',
                    "text/html": ["<p>\n", "</p>"],
                    "audio/wav": bytearray(b"\0\1"),
                    "application/x-own": b"\xff",
                },
                {"image/png": {"width": 1}},
            ),
            "html": "another",
            "jpeg": b"\xff\xd8\xff",
        }
    )


def base64_as_bytes():
    return Rich({"png": base64.b64encode(PNG)})


def jpeg():
    return Rich({"jpeg": (b"\xff\xd8\xff\xe0", {})})


def nonsense():
    """Nothing of it is what it should be."""
    return Rich(
        {
            "mimebundle": [1],
            "html": 5,
            "markdown": b"\xff",
            "latex": SystemExit(3),
            "svg": ValueError("no picture today"),
            "png": b"GIF89a",
            "jpeg": "not base64 at all!",
            "pdf": "ü",
            "json": {1, 2},
            "javascript": lambda: asyncio.sleep(0),
        }
    )


def odd_bundle():
    return Rich(
        {
            "mimebundle": {
                5: "number",
                "no type": "x",
                "text/" + "x" * 300: "long",
                "text/html": None,
                "text/ü": "letters",
                **{f"text/x-{number}": "many" for number in range(1_000)},
            }
        }
    )


def odd_classes():
    return Rich({"html": Text("<b>text</b>"), "png": Bytes(b"GIF89a"), "svg": "\ud800"})


def silent(error="nothing to see"):
    return Rich({"html": ValueError("no")}, ValueError(error))


def without_repr():
    return Rich({"html": "<b>there</b>"}, ValueError("nothing to see"))


def large(size):
    return Rich({"png": PNG + bytes(size)})


def slow():
    return Rich({"html": lambda: time.sleep(60)})


def on_class():
    return OnClass()


def the_class():
    return OnClass


def anything():
    return Anything()


def refusing():
    return Refusing()
