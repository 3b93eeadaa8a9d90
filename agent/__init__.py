"""Edge Agent: video inference on the smallest boards, with events that are never silently lost."""

__version__ = "0.1.0"
