"""A suite of which each test does something else in a worker: test/typhon/foreign_test.exs runs it through the harness."""

import ctypes
import sys
import unittest

WORKER = any(name.startswith("typhon") for name in sys.modules)


class Same(unittest.TestCase):
    def test_passes(self):
        pass

    @unittest.skip("everywhere")
    def test_skipped(self):
        pass

    def test_fails(self):
        self.fail("everywhere")


class Differs(unittest.TestCase):
    def test_fails(self):
        self.assertFalse(WORKER, "in a worker")

    def test_subtest(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertFalse(WORKER and number == 1, "in a worker")

    def test_passes(self):
        self.assertTrue(WORKER, "in a plain Python")

    def test_skipped(self):
        if WORKER:
            self.skipTest("in a worker")


class NotSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if WORKER:
            raise OSError("not in a worker")

    def test_not_run(self):
        pass


class Ends(unittest.TestCase):
    def test_a_ends(self):
        if WORKER:
            ctypes.string_at(0)

    def test_b_after_it(self):
        pass
