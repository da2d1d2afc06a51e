"""External Term Format by hand: what the tests feed to typhon.decode, and compare typhon.encode with."""

import struct

V = b"\x83"
NIL = b"j"


def atom(name: str) -> bytes:
    utf8 = name.encode()
    return b"w" + bytes([len(utf8)]) + utf8 if len(utf8) < 256 else b"v" + struct.pack(">H", len(utf8)) + utf8


def binary(data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return b"m" + struct.pack(">I", len(data)) + data


def around_power_of_two(bits: int) -> tuple[int, ...]:
    """Where the forms of integers change: 2 to the power of `bits` and its neighbours, of both signs."""
    power = 1 << bits
    return (power, power - 1, power + 1, -power, -power - 1, 1 - power)


def integer(value: int) -> bytes:
    """As the BEAM writes it."""
    if 0 <= value < 256:
        return b"a" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"b" + struct.pack(">i", value)
    magnitude = abs(value).to_bytes((abs(value).bit_length() + 7) // 8, "little")
    head = (
        b"n" + bytes([len(magnitude)]) if len(magnitude) < 256 else b"o" + struct.pack(">I", len(magnitude))
    )
    return head + bytes([value < 0]) + magnitude


def floating(value: float) -> bytes:
    return b"F" + struct.pack(">d", value)


def listing(*items: bytes, tail: bytes = NIL) -> bytes:
    return b"l" + struct.pack(">I", len(items)) + b"".join(items) + tail if items else tail


def string(*values: int) -> bytes:
    """A list of integers from 0 to 255, as the BEAM writes it."""
    return b"k" + struct.pack(">H", len(values)) + bytes(values)


def tuple_(*items: bytes) -> bytes:
    head = b"h" + bytes([len(items)]) if len(items) < 256 else b"i" + struct.pack(">I", len(items))
    return head + b"".join(items)


def mapping(*keys_and_values: bytes) -> bytes:
    return b"t" + struct.pack(">I", len(keys_and_values) // 2) + b"".join(keys_and_values)


def struct_(name: str, /, *fields_and_values: bytes, last: bool = False, **fields: bytes) -> bytes:
    """An Elixir struct; `last`: with its key __struct__ at the end."""
    pairs = list(fields_and_values)
    for key, value in fields.items():
        pairs += [atom(key), value]
    tag = [atom("__struct__"), atom(name)]
    return mapping(*pairs, *tag) if last else mapping(*tag, *pairs)


def pid(node: str = "a@b", number: int = 1, serial: int = 2, creation: int = 3) -> bytes:
    return b"X" + atom(node) + struct.pack(">III", number, serial, creation)


def reference(node: str = "a@b", creation: int = 1, words: tuple[int, ...] = (2, 3, 4)) -> bytes:
    return (
        b"Z" + struct.pack(">H", len(words)) + atom(node) + struct.pack(f">I{len(words)}I", creation, *words)
    )


def port(node: str = "a@b", number: int = 5, creation: int = 1) -> bytes:
    return b"x" + atom(node) + struct.pack(">QI", number, creation)


def export(module: str = "Elixir.Enum", function: str = "map", arity: int = 2) -> bytes:
    return b"q" + atom(module) + atom(function) + b"a" + bytes([arity])


def closure(*free: bytes, module: str = "m", arity: int = 1) -> bytes:
    body = bytes([arity]) + bytes(range(16)) + struct.pack(">II", 7, len(free)) + atom(module)
    body += integer(8) + integer(9) + pid() + b"".join(free)
    return b"p" + struct.pack(">I", len(body) + 4) + body


ISO = atom("Elixir.Calendar.ISO")


def date_fields(year: int = 2024, month: int = 2, day: int = 29) -> dict[str, bytes]:
    return {"calendar": ISO, "year": integer(year), "month": integer(month), "day": integer(day)}


def time_fields(
    hour: int = 23, minute: int = 59, second: int = 58, us: int = 0, precision: int = 0
) -> dict[str, bytes]:
    return {
        "hour": integer(hour),
        "minute": integer(minute),
        "second": integer(second),
        "microsecond": tuple_(integer(us), integer(precision)),
    }


def zone_fields(name: str, abbr: str, utc_offset: int, std_offset: int) -> dict[str, bytes]:
    return {
        "time_zone": binary(name),
        "zone_abbr": binary(abbr),
        "utc_offset": integer(utc_offset),
        "std_offset": integer(std_offset),
    }
