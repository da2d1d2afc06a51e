"""What programs that were written for ErlPort import, on Typhon's native core.

The modules, names and types are ErlPort's; docs/from-erlport.md lists what is different.
"""

from erlport.erlterms import Atom, ImproperList, List

__version__ = "1.0"

__all__ = ["Atom", "ImproperList", "List"]
