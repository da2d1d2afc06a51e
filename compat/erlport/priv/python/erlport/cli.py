"""python -m erlport.cli: what an instance runs. Without --typhon it speaks ErlPort's own protocol over file descriptors."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_CHANNEL = "--typhon="


def get_option_parser() -> ArgumentParser:
    from argparse import ArgumentParser, ArgumentTypeError

    def level(text: str) -> int:
        if text not in map(str, range(10)):
            raise ArgumentTypeError("valid values are 0 to 9")
        return int(text)

    def size(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise ArgumentTypeError("it must be greater than 0")
        return int(text)

    parser = ArgumentParser(prog="erlport", description="The Python side of an ErlPort port.")
    parser.add_argument("--packet", type=int, choices=(1, 2, 4), default=4, help="bytes of a packet's length")
    parser.add_argument("--use_stdio", dest="stdio", action="store_true", default=True, help="file descriptors 0 and 1")
    parser.add_argument("--nouse_stdio", dest="stdio", action="store_false", help="file descriptors 3 and 4")
    parser.add_argument("--compressed", type=level, default=0, metavar="LEVEL", help="zlib's level")
    parser.add_argument("--buffer_size", type=size, default=65536, metavar="SIZE", help="how much is read at a time")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    # Without a parser, whose import every start would pay for.
    for argument in arguments:
        if argument.startswith(_CHANNEL):
            from erlport import _worker

            beam_pid, fd = argument[len(_CHANNEL) :].split(":")
            # The other options stay for user code, as ErlPort has it.
            sys.argv[1:] = [other for other in sys.argv[1:] if other != argument]
            sys.exit(_worker.main(int(beam_pid), int(fd), 3 if "--nouse_stdio" in arguments else 0))
    options: Namespace = get_option_parser().parse_args(arguments)

    from erlport import erlang
    from erlport.erlproto import Port

    port = Port(
        packet=options.packet, use_stdio=options.stdio, compressed=options.compressed, buffer_size=options.buffer_size
    )
    erlang.setup(port)


if __name__ == "__main__":
    main()
