"""How long tests wait for what must come."""

from __future__ import annotations

HANGS_S = 180.0
"""A test that has waited so long has found something that hangs: no machine is that slow."""
