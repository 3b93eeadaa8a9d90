"""The double's builder, network, parser and configuration."""

from __future__ import annotations

import enum
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorrt import SETTINGS, __version__
from tensorrt.common import OF_ORT, ILogger, crash, load_session, pack

_STEPS = 8


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class IProgressMonitor:
    """What a caller may derive from."""


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: Any


@dataclass
class _Network:
    flags: int
    onnx: bytes = b""
    inputs: list[_Tensor] = field(default_factory=list)
    outputs: list[_Tensor] = field(default_factory=list)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> _Tensor:
        return self.outputs[index]


class _HostMemory(bytes):
    """What the real one gives has a buffer: `bytes()` copies it."""


class _TimingCache:
    def __init__(self, content: bytes) -> None:
        known = json.loads(content) if content else {"version": __version__, "builds": 0}
        self.version, self.builds = known["version"], known["builds"]

    def serialize(self) -> _HostMemory:
        return _HostMemory(json.dumps({"version": self.version, "builds": self.builds}).encode())


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (tuple(min), tuple(opt), tuple(max))


class _Config:
    def __init__(self) -> None:
        self.progress_monitor: Any = None
        self.pools: dict[Any, int] = {}
        self.profiles: list[_Profile] = []
        self._timings: _TimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> _TimingCache | None:
        try:
            return _TimingCache(serialized_timing_cache)
        except (ValueError, KeyError, TypeError):
            return None

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        if cache.version != __version__ and not ignore_mismatch:
            return False
        self._timings = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self._timings

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED, "not strongly typed"
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> _HostMemory | None:
        tensor = network.inputs[0]
        if tensor.shape[0] < 0 and not config.profiles:
            self._logger.log(
                ILogger.ERROR, "Network has dynamic inputs, but no optimization profile is defined."
            )
            return None
        batch = config.profiles[0].shapes[tensor.name][2][0] if config.profiles else tensor.shape[0]
        hog = np.ones(int(SETTINGS.get("hog_mib", "0")) << 20, np.uint8)
        self._work(config.progress_monitor)
        if SETTINGS.get("crash") == "build":
            crash()
        if config.get_timing_cache() is not None:
            config.get_timing_cache().builds += 1
        del hog
        return _HostMemory(pack(__version__, batch, network.onnx))

    def _work(self, monitor: Any) -> None:
        if monitor is not None:
            monitor.phase_start("Building Engine 0", None, 2)
            monitor.phase_start("Tactic Selection", "Building Engine 0", _STEPS)
        for step in range(_STEPS):
            time.sleep(float(SETTINGS.get("step_s", "0")))
            if monitor is not None:
                monitor.step_complete("Tactic Selection", step)
        if monitor is not None:
            monitor.phase_finish("Tactic Selection")
            monitor.step_complete("Building Engine 0", 0)
            monitor.step_complete("Building Engine 0", 1)
            monitor.phase_finish("Building Engine 0")


class _ParserError:
    def __init__(self, node: int, name: str, operator: str, desc: str) -> None:
        self._all = node, name, operator, desc

    def node(self) -> int:
        return self._all[0]

    def node_name(self) -> str:
        return self._all[1]

    def node_operator(self) -> str:
        return self._all[2]

    def desc(self) -> str:
        return self._all[3]


class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network, self._errors = network, list[_ParserError]()

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        import onnx

        try:
            nodes = onnx.load_from_string(model).graph.node
        except Exception:  # noqa: BLE001  protobuf's own exceptions share no public base
            said = (
                "Assertion failed: model->ParseFromCodedStream(&codedInput): Failed to parse the ONNX model."
            )
            self._errors.append(_ParserError(-1, "", "", said))
            return False
        for number, node in enumerate(nodes):
            if not onnx.defs.has(node.op_type):
                said = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
                self._errors.append(_ParserError(number, node.name, node.op_type, said))
            elif node.op_type == SETTINGS.get("refuse"):
                self._errors.append(_ParserError(number, node.name, node.op_type, "false"))
        if self._errors:
            return False
        try:
            session = load_session(model)
        except Exception as error:  # noqa: BLE001  ONNX Runtime's own exceptions share no public base
            self._errors.append(_ParserError(-1, "", "", f"Assertion failed: (parsed): {error}"))
            return False
        self._network.onnx = model
        self._network.inputs = [_tensor(each) for each in session.get_inputs()]
        self._network.outputs = [_tensor(each) for each in session.get_outputs()]
        return True


def _tensor(told: Any) -> _Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in told.shape)
    return _Tensor(told.name, shape, OF_ORT[told.type])
