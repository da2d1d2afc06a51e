"""Run with the built package on PYTHONPATH: PYTHONPATH=priv/python python3 -m pytest python/tests"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "priv" / "python"

try:
    import typhon  # noqa: F401
except ImportError:
    sys.path.insert(0, str(PACKAGE))
