"""Hangs a worker, however often it is interrupted, so that this has to be ended; then goes on."""

import sys
import time
import unittest

WORKER = any(name.startswith("typhon") for name in sys.modules)


class Hangs(unittest.TestCase):
    def test_a_hangs(self):
        while WORKER:
            try:
                time.sleep(60)
            except BaseException:
                pass

    def test_b_after_it(self):
        pass
