"""Ends a worker before there are tests."""

import ctypes
import sys
import unittest

if any(name.startswith("typhon") for name in sys.modules):
    ctypes.string_at(0)


class Never(unittest.TestCase):
    def test_not_run(self):
        pass
