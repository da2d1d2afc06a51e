"""The protocol of ErlPort's ports: terms in packets over a pair of file descriptors. It stands by itself: an instance of
Typhon's speaks through shared memory and has no use for it."""

from __future__ import annotations

import errno
import os
from threading import Lock

from erlport.erlterms import decode, encode
from erlport.stdio import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Port:
    """Messages to and from a BEAM that opened this process as a port with {packet, N}.

    packet: bytes of a packet's length, 1, 2 or 4. use_stdio: file descriptors 0 and 1, else 3 and 4. descriptors: others. compressed: as
    in erlterms.encode. buffer_size: how much is read at a time.
    """

    def __init__(
        self,
        packet: int = 4,
        use_stdio: bool = True,
        compressed: bool | int = False,
        descriptors: tuple[int, int] | None = None,
        buffer_size: int = 65536,
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"invalid buffer size value: {buffer_size!r}")
        if packet not in (1, 2, 4):
            raise ValueError(f"invalid packet size value: {packet!r}")
        self.packet = packet
        self.compressed = compressed
        self.buffer_size = buffer_size
        self.in_d, self.out_d = descriptors or ((0, 1) if use_stdio else (3, 4))
        self._received = bytearray()
        self._reading = Lock()
        self._writing = Lock()

    def read(self) -> Any:
        """The next message. Raises EOFError when there is none any more."""
        with self._reading:
            size = self.packet + int.from_bytes(self._receive(self.packet)[: self.packet], "big")
            message = bytes(self._receive(size)[self.packet : size])
            del self._received[:size]
        return decode(message)[0]

    def _receive(self, size: int) -> bytearray:
        while len(self._received) < size:
            try:
                data = os.read(self.in_d, self.buffer_size)
            except OSError as error:
                raise _end(error) from None
            if not data:
                raise EOFError
            self._received += data
        return self._received

    def write(self, message: object) -> int:
        """Send a message; the number of bytes it took. Raises EOFError when nobody reads any more, OverflowError when it is longer than a
        packet can be."""
        data = encode(message, self.compressed)
        packet = len(data).to_bytes(self.packet, "big") + data
        with self._writing:
            try:
                write_all(self.out_d, packet)
            except OSError as error:
                raise _end(error) from None
        return len(packet)

    def close(self) -> None:
        os.close(self.in_d)
        os.close(self.out_d)


def _end(error: OSError) -> Exception:
    return EOFError() if error.errno in (errno.EPIPE, errno.EINVAL) else error
