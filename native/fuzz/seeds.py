#!/usr/bin/env python3
"""Writes the seed files of the ETF fuzzers, corpus/fuzz_etf_*/, out of test/vectors/index.tsv."""

import pathlib
import zlib

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "test" / "vectors" / "index.tsv"
LARGEST = 2048  # bytes: small seeds are mutated faster
STRUCTURED = ("list", "tuple", "map", "fun", "identifiers", "string", "reject_list", "reject_tuple", "reject_map", "strict")
# Leaves that stand for binaries beside the term (docs/protocol.md, "Loans"); the fuzzers say that there are two.
LOANS = {
    "loan_0": b"\xc8\0\0\0\0",
    "loan_1_in_tuple": b"h\x02\xc8\0\0\0\x01a\x01",
    "loan_in_map": b"t\0\0\0\x01\xc8\0\0\0\0\xc8\0\0\0\x01",
    "loan_beyond": b"\xc8\0\0\0\x02",
    "loan_cut": b"\xc8\0\0",
}


def write(target: str, name: str, data: bytes) -> int:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return len(data)


def main() -> None:
    total = 0
    for line in VECTORS.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, flags, text, _canonical, _source = line.split("\t")
        data = bytes.fromhex(text)
        if len(data) < 2 or data[0] != 131 or len(data) > LARGEST:
            continue
        body = data[1:]
        if body[0] == 80:  # compressed
            total += write("fuzz_etf_inflate", name, b"\0" + body[1:])
            continue
        total += write("fuzz_etf_decode", name, body)
        if name.startswith(STRUCTURED):
            total += write("fuzz_etf_skip", name, body)
            if "accept" in flags:
                total += write("fuzz_etf_inflate", "inside_" + name, b"\x13" + body)
    for name, body in LOANS.items():
        total += write("fuzz_etf_decode", name, body) + write("fuzz_etf_skip", name, body)
    for size in (3, 100, 3000):
        total += write("fuzz_etf_inflate", f"written_{size}", b"\x14" + bytes(i % 7 for i in range(size)))
    stream = zlib.compress(bytes(range(256)) * 4)
    total += write("fuzz_etf_inflate", "not_a_term", b"\0" + (1024).to_bytes(4, "big") + stream)
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
