"""Classes of attrs and of pydantic, which are maps of their fields as dataclasses are."""

import dataclasses
import os
import uuid

import attr
import attrs
import pytest
import test_leaks

import typhon

# Debian 12 has an older one.
pydantic = pytest.importorskip("pydantic", minversion="2")


def refusal(value) -> typhon.EncodeError:
    with pytest.raises(typhon.EncodeError) as caught:
        typhon.encode(value)
    return caught.value


@attrs.define
class Point:
    x: int
    _y: object = None
    z: int = attrs.field(init=False)


@attr.s
class Old:
    a = attr.ib()


class User(pydantic.BaseModel):
    id: uuid.UUID
    name: str = "Ann"
    friends: list["User"] = []
    _private: int = 5

    @property
    def computed(self):
        raise AssertionError


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Numbers(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Pair:
    a: int
    b: object = None


class Alias(pydantic.BaseModel):
    kind: int = pydantic.Field(alias="type")


ID = uuid.UUID(int=7)


def point(x, y=None, z=0):
    made = Point(x, y)
    made.z = z
    return made


@pytest.mark.parametrize(
    ("value", "same_as"),
    [
        (point(1, [2]), {"x": 1, "_y": [2], "z": 0}),
        (Old(point(1)), {"a": {"x": 1, "_y": None, "z": 0}}),
        (User(id=ID), {"id": str(ID), "name": "Ann", "friends": []}),
        (
            User(id=ID, friends=[User(id=ID, name="Bo")]),
            {"id": str(ID), "name": "Ann", "friends": [{"id": str(ID), "name": "Bo", "friends": []}]},
        ),
        (Open(a=1, b=[2]), {"a": 1, "b": [2]}),
        (Open(a=1), {"a": 1}),
        (Numbers([1, 2]), {"root": [1, 2]}),
        (Pair(1), {"a": 1, "b": None}),
        (Pair(1, Old(2)), {"a": 1, "b": {"a": 2}}),
        (Alias(type=1), {"kind": 1}),
    ],
)
def test_are_maps_of_their_fields(value, same_as):
    for _ in range(2):  # found out, and remembered
        assert typhon.encode([value, {"k": value}]) == typhon.encode([same_as, {"k": same_as}])


def test_a_field_that_is_not_there():
    error = refusal([Point(1)])
    assert error.path == "value[0]"
    assert error.reason.startswith("cannot read the fields of an attrs class: AttributeError: ")
    assert error.type_name.endswith(".Point")
    assert isinstance(error.__cause__, AttributeError)
    error = refusal({"m": User.model_construct(name="x")})
    assert error.path == 'value["m"]'
    assert error.reason.startswith("cannot read the fields of a pydantic model: AttributeError: ")


def test_a_field_that_cannot_go():
    error = refusal([Old(Open(a=1, b=[object()]))])
    assert error.path == "value[0].a.b[0]"
    error = refusal(Open.model_construct(a=object()))
    assert error.path == "value.a"


def test_one_inside_itself():
    loop = Old(None)
    loop.a = [loop]
    assert refusal(loop).reason == "a reference to a container that it is inside of: the value has no end"
    model = Open(a=1, b=None)
    model.b = {"m": model}
    assert refusal(model).path == 'value.b["m"]'


def test_extra_fields_of_another_kind():
    model = Open(a=1)
    model.__pydantic_extra__[5] = [object()]
    assert refusal(model).path == "value[5][0]"


def test_nothing_is_left_behind():
    for value in (Open(a=1, b=[2.5]), Open(a=1, b=object()), Open.model_construct(), User(id=ID)):
        test_leaks.check(typhon.encode, value)


def test_an_interrupt_goes_through():
    @attrs.define(slots=False)
    class Asks:
        a: int

        def __getattribute__(self, name):
            if name == "a":
                raise KeyboardInterrupt
            return super().__getattribute__(name)

    with pytest.raises(KeyboardInterrupt):
        typhon.encode(Asks(1))


@pytest.mark.parametrize("kind", [Point, Old, User, Pair])
def test_a_class_itself_is_no_value(kind):
    assert "has no counterpart" in refusal(kind).reason


def test_a_class_that_only_looks_like_one():
    class Plain:
        model_fields = {"a": 1}
        __attrs_attrs__ = 5

    assert "has no counterpart" in refusal(Plain()).reason


def test_fields_come_before_a_path():
    @dataclasses.dataclass
    class Folder(os.PathLike):
        a: int

        def __fspath__(self):
            return "/a"

    assert typhon.encode(Folder(1)) == typhon.encode({"a": 1})
