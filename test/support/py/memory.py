"""Jobs that take much memory and free it."""

import typhon

kept = []


def make_bytes(count, size):
    """A list of bytes objects; what it took when it was there."""
    made = [bytes([i % 256]) * size for i in range(count)]
    return len(made)


def make_bytes_under_a_small_one(count, size):
    """The same; one that is kept was taken last, and lies at the end of the heap."""
    made = [bytes([i % 256]) * size for i in range(count)]
    kept.append(b"k" * 1_000)
    return len(made)


def make_small_objects(count):
    return len([[i] for i in range(count)])


async def make_bytes_async(count, size):
    return make_bytes_under_a_small_one(count, size)


class Holder:
    """A handle of it keeps much."""

    def __init__(self, count, size):
        self.made = [bytes([i % 256]) * size for i in range(count)]
        kept.append(b"k" * 1_000)


def receive_forever(size):
    """A message is who is to be told, and how many to make."""
    while True:
        pid, count = typhon.receive()
        make_bytes_under_a_small_one(count, size)
        typhon.send(pid, "made")


def large(size):
    kept.append(b"k" * 1_000)
    return b"x" * size

