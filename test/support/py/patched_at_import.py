"""Patches as it is imported, as a program does that begins with monkey.patch_all()."""

import patches

patches.patch()

from patched_work import *  # noqa: E402, F403
