"""What pyplot keeps, without matplotlib: figures that are held until they are closed."""

import asyncio
import sys
import types
from itertools import count

_numbers = count(1)


class Figure:
    def __init__(self):
        self.number = next(_numbers)

    def _repr_svg_(self):
        return f"<svg id='{self.number}'/>"


class Manager:
    def __init__(self, number, refuses):
        self.num = number
        self.refuses = refuses
        self.figure = Figure()


class Gcf:
    figs = {}

    @classmethod
    def destroy(cls, manager):
        del cls.figs[manager.num]
        if manager.refuses:
            raise RuntimeError("this window stays")


def figure(refuses=False):
    sys.modules.setdefault("matplotlib._pylab_helpers", types.SimpleNamespace(Gcf=Gcf))
    # As pyplot numbers them.
    manager = Manager(max(Gcf.figs, default=0) + 1, refuses)
    Gcf.figs[manager.num] = manager
    return manager.figure


def number_of_figures():
    return len(Gcf.figs)


def close_all():
    Gcf.figs.clear()


async def figure_later():
    await asyncio.sleep(0)
    return figure()
