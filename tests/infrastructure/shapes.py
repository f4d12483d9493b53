"""The template as parameters decide it, for the tests of this folder."""

from __future__ import annotations

from local.template import NOTHING, ROOT, refusals, shape, translated

__all__ = ["NOTHING", "ROOT", "refusals", "shape", "translated"]
