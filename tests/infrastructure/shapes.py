"""The template as parameters decide it, for the tests beside."""

from __future__ import annotations

from local.template import NOTHING, ROOT, refusals, shape, translated

__all__ = ["NOTHING", "ROOT", "refusals", "shape", "translated"]
