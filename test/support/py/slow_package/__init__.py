"""A package whose import takes its time; imported again after it was broken off here, it would not find `base`."""

import time

from .base import *  # noqa: F403

time.sleep(1.5)
names = base.names  # noqa: F405


def ready():
    return names
