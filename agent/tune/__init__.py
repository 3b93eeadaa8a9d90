"""`edge-agent tune`: every way to run a bundle on this very device, measured; the best is kept for `run`."""

from __future__ import annotations
