"""What the benchmarks call: as little Python as there can be."""


def echo(value):
    return value
