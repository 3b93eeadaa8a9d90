"""The device's default model: installed when it is trusted and works, taken back when it does not."""

from __future__ import annotations

from agent.modelstore.state import StoreState
from agent.modelstore.store import FOLDER, ModelStore

__all__ = ["FOLDER", "ModelStore", "StoreState"]
