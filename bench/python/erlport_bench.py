"""What the benchmarks of ErlPort's interface call."""

from erlport.erlang import call
from erlport.erlterms import Atom


def call_abs(count):
    for _ in range(count):
        call(Atom(b"erlang"), Atom(b"abs"), [-1])
