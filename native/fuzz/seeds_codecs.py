#!/usr/bin/env python3
"""Writes the seed files of the fuzzers of the Python and of the Ruby codec, corpus/fuzz_python/ and corpus/fuzz_ruby/."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "python" / "tests"))
import terms as t  # noqa: E402
from seeds import LOANS  # noqa: E402

DATE, TIME = t.date_fields(), t.time_fields(us=5, precision=6)
RANGE = [t.atom("first"), t.integer(1), t.atom("last"), t.integer(9), t.atom("step"), t.integer(2)]
SEEDS = {
    "plain": t.listing(
        t.integer(1), t.integer(-1), t.integer(1 << 70), t.floating(1.5), t.atom("ok"), t.binary("é"), t.NIL
    ),
    "map": t.mapping(
        t.binary("k"), t.integer(1), t.tuple_(t.integer(1)), t.mapping(), t.atom("a"), t.string(1, 2)
    ),
    "keys": t.mapping(t.integer(1), t.NIL, t.floating(1.0), t.NIL, t.atom("true"), t.NIL),
    "improper": t.listing(t.integer(1), tail=t.atom("x")),
    "opaque": t.tuple_(t.pid(), t.port(), t.reference(), t.export(), t.closure(t.binary("x"))),
    "bytes": t.struct_("Elixir.Typhon.Bytes", data=t.binary(b"\xff")),
    "bytes_late": t.listing(
        t.struct_("Elixir.Typhon.Bytes", data=t.binary(b"\xff"), last=True), t.binary("x")
    ),
    "buffer": t.struct_("Elixir.Typhon.Buffer", data=t.binary(b"\xff")),
    "array": t.struct_(
        "Elixir.Typhon.Array", shape=t.tuple_(t.integer(1)), dtype=t.binary("<f8"), data=t.binary(bytes(8))
    ),
    "object": t.struct_("Elixir.Typhon.Object", id=t.integer(1)),
    "date": t.struct_("Elixir.Date", **DATE),
    "time": t.struct_("Elixir.Time", **TIME),
    "naive": t.struct_("Elixir.NaiveDateTime", **DATE, **TIME),
    "utc": t.struct_("Elixir.DateTime", **DATE, **TIME, **t.zone_fields("Etc/UTC", "UTC", 0, 0)),
    "zone": t.struct_("Elixir.DateTime", **DATE, **TIME, **t.zone_fields("Europe/Paris", "CET", 3600, 0)),
    "set": t.struct_("Elixir.MapSet", map=t.mapping(t.integer(1), t.NIL, t.binary("x"), t.NIL)),
    "set_late": t.struct_("Elixir.MapSet", map=t.mapping(t.integer(1), t.NIL), last=True),
    "decimal": t.struct_("Elixir.Decimal", sign=t.integer(1), coef=t.integer(150), exp=t.integer(-2)),
    "decimal_large": t.struct_(
        "Elixir.Decimal", sign=t.integer(-1), coef=t.integer(1 << 90), exp=t.integer(-2)
    ),
    "range": t.struct_("Elixir.Range", *RANGE),
    "span": t.tuple_(t.atom("timedelta"), t.integer(-1), t.integer(86_399), t.integer(5)),
    "duration": t.struct_(
        "Elixir.Duration",
        **{part: t.integer(0) for part in ("year", "month", "week", "day", "hour", "minute", "second")},
        microsecond=t.tuple_(t.integer(5), t.integer(6)),
    ),
    "named": t.struct_(
        "Elixir.Typhon.Struct", name=t.atom("Elixir.Some"), fields=t.mapping(t.binary("a"), t.integer(1))
    ),
    "other": t.struct_("Elixir.Other", x=t.integer(1)),
}

TAGGED = {
    "fraction": t.tuple_(t.atom("fraction"), t.integer(-1), t.integer(3)),
    "complex": t.tuple_(t.atom("complex"), t.floating(1.5), t.atom("neg_infinity")),
    "tuple": t.tuple_(t.atom("fraction"), t.integer(1), t.NIL),
}


def opaque(language: str, dumped: str) -> bytes:
    """An object of the language's in the dialect of ErlPort."""
    return t.tuple_(t.atom("$erlport.opaque"), t.atom(language), t.binary(dumped))


def write(fuzzer: str, seeds: dict[str, bytes]) -> None:
    folder = HERE / "corpus" / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        (folder / name).write_bytes(seed)


def main() -> None:
    python = {name: b"\1" + term for name, term in SEEDS.items()}
    python |= {f"tagged_{name}": b"\x21" + term for name, term in TAGGED.items()}
    python["duration_again"] = b"\x41" + SEEDS["duration"]
    python |= {f"erlport_{name}": b"\x10" + term for name, term in SEEDS.items()}
    python |= {name: b"\x0c" + term for name, term in LOANS.items()}
    write("fuzz_python", python | {"erlport_pickle": b"\x10" + opaque("python", "N.")})
    ruby = {name: b"\0" + term for name, term in SEEDS.items()}
    ruby |= {f"erlport_{name}": b"\1" + term for name, term in SEEDS.items()}
    ruby |= {f"collects_{name}": b"\xe0" + term for name, term in SEEDS.items()}
    write("fuzz_ruby", ruby | {"erlport_marshal": b"\1" + opaque("ruby", "\4\x08i\6")})


if __name__ == "__main__":
    main()
