"""What the agent is told to do: frozen structs, checked at construction; one TOML file holds them all."""

from __future__ import annotations

from agent.config.camera import CameraConfig, Detect, Sampling, Zone
from agent.config.device import (
    CommandsConfig,
    Config,
    HomeAssistantConfig,
    LimitsConfig,
    MetricsConfig,
    ModelsConfig,
    MqttConfig,
    OutboxConfig,
)

__all__ = [
    "CameraConfig",
    "CommandsConfig",
    "Config",
    "Detect",
    "HomeAssistantConfig",
    "LimitsConfig",
    "MetricsConfig",
    "ModelsConfig",
    "MqttConfig",
    "OutboxConfig",
    "Sampling",
    "Zone",
]
