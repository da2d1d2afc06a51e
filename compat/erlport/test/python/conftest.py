"""Run with the built packages: PYTHONPATH=priv/python:compat/erlport/priv/python:python/tests python3 -m pytest compat/erlport/test/python"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]

for package in ("priv/python", "compat/erlport/priv/python", "python/tests"):
    if str(ROOT / package) not in sys.path:
        sys.path.append(str(ROOT / package))
