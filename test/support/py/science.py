"""What the packages with C code have to get right, whoever else uses them at the same time."""

import threading

import numpy as np
import pandas as pd


def regress(seed):
    """Which Python did it, and how far a least-squares fit and a table's sums are off."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(500, 20))
    weights = np.arange(20.0)
    found, *_ = np.linalg.lstsq(x, x @ weights, rcond=None)
    table = pd.DataFrame(x).assign(group=np.arange(500) % 7)
    sums = table.groupby("group").sum().to_numpy().sum()
    return [
        threading.main_thread().native_id,
        float(np.abs(found - weights).max()),
        float(abs(sums - x.sum())),
    ]
