"""Many prompts at once: requests of any length join and leave one running batch between its steps."""

from __future__ import annotations

from onlooker.engine.engine import Engine
from onlooker.engine.request import Request

__all__ = ["Engine", "Request"]
