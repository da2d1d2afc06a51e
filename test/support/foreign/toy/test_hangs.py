"""Hangs a worker: a test that can be interrupted, and one that can not, so that its worker has to be ended. The others go on."""

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

    def test_c_waits(self):
        if WORKER:
            time.sleep(600)

    def test_d_after_it(self):
        pass
