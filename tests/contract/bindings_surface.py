"""What our code uses of NVIDIA's Python bindings, and what each version of the real ones has of that.

`python -m tests.contract.bindings_surface` takes the wheels of `WHEELS` from the package index, looks at them without
GPU or TensorRT (stub libraries, see bindings_stub.c), and writes bindings.json.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from agent.backends.tensorrt.module import DTYPES

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("bindings.json")
WHEELS = {
    "tensorrt 10.3": ["tensorrt-cu12-bindings==10.3.0"],
    "tensorrt 10.13": ["tensorrt-cu12-bindings==10.13.3.9"],
    "tensorrt 11": ["tensorrt-cu12-bindings==11.4.0.106"],
    "cuda 12": ["cuda-bindings==12.9.10", "cuda-pathfinder"],
    "cuda 13": ["cuda-bindings==13.5.0", "cuda-pathfinder"],
}
OBJECTS = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "timings": "ITimingCache",
    "config.get_timing_cache()": "ITimingCache",
    "profile": "IOptimizationProfile",
    "parser": "OnnxParser",
    "error": "ParserError",
    "tensor": "ITensor",
    "network.get_output(index)": "ITensor",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "self._runtime": "Runtime",
    "self._context": "IExecutionContext",
    "trt.ILogger": "ILogger",
    "trt.MemoryPoolType": "MemoryPoolType",
    "trt.TensorIOMode": "TensorIOMode",
}
"""What TensorRT's objects are called in our code, and of which class they are."""
BY_NAME = (
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "Builder",
    "Runtime",
    "IProgressMonitor.phase_start",
)
BY_NAME += tuple(f"DataType.{name}" for name in DTYPES)
BY_NAME += ("IProgressMonitor.step_complete", "IProgressMonitor.phase_finish", "ILogger.log")
"""What our code looks up by a string, or overrides."""
_SOURCES = {"tensorrt": "tensorrt/*.py", "cuda": "cuda/bindings.py"}
_LOOK = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
found = {}
for name in json.loads(sys.argv[2]):
    thing = module
    for part in name.split("."):
        thing = getattr(thing, part, None)
    if thing is not None:
        found[name] = (thing.__doc__ or "") if callable(thing) else ""
print(json.dumps(found))
"""


def used(package: str) -> list[str]:
    """Return the dotted names that our code uses of `package`, "tensorrt" or "cuda"."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "agent/backends").glob(_SOURCES[package])]
    accessed = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    if package == "cuda":
        return sorted(
            {ast.unparse(a).removeprefix("runtime.") for a in accessed if _is_runtime(a)} | _members(accessed)
        )
    names = set(BY_NAME)
    for access in accessed:
        owner = ast.unparse(access.value)
        if owner in OBJECTS and not (owner == "tensor" and access.attr == "dtype"):
            names.add(f"{OBJECTS[owner]}.{access.attr}".lstrip("."))
    return sorted(names - {"__version__"})


def _is_runtime(access: ast.Attribute) -> bool:
    return ast.unparse(access).startswith("runtime.")


def _members(accessed: list[ast.Attribute]) -> set[str]:
    """Return the attributes of the GPU, which are looked up in a variable of their enum's."""
    return {f"cudaDeviceAttr.{a.attr}" for a in accessed if ast.unparse(a.value) == "keys"}


def real(wheels: list[str], package: str, folder: Path) -> dict[str, list[str]]:
    """Return what of the used names is in the real `wheels`: of each the parameters of its overloads."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
    ]
    subprocess.run([*pip, *wheels], check=True, timeout=600)
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        for major in (10, 11):
            target = str(folder / f"lib{library}.so.{major}")
            source = str(Path(__file__).with_name("bindings_stub.c"))
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=True, timeout=60)
    module = {"tensorrt": "tensorrt_bindings", "cuda": "cuda.bindings.runtime"}[package]
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, module, json.dumps(used(package))],
        env={**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return {name: _overloads(name.rpartition(".")[2], doc) for name, doc in json.loads(done.stdout).items()}


def _overloads(name: str, doc: str) -> list[str]:
    """Return the parameters of each overload in the documentation, such as "flags" of `f(self: X, flags: int = 0)`."""
    found = [line.partition("(")[2] for line in re.findall(rf"^(?:\d+\. )?{name}\(.*$", doc, re.MULTILINE)]
    found = [_parameters(rest) for rest in found if not rest.startswith("*args")]
    return sorted(set(found))


def _parameters(rest: str) -> str:
    """Return the names in `self: X, pool: Y[a, b], size_t pool_size = 0) -> None`, without self."""
    depth, parts = 0, [""]
    for character in rest:
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1, ">": -1}.get(character, 0)
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    names = [part.partition("=")[0].partition(":")[0].split() for part in parts]
    return ", ".join(words[-1] for words in names if words and words[-1] != "self")


def make() -> dict[str, dict[str, list[str]]]:
    """Return the table, made from the wheels."""
    table = {}
    for name, wheels in WHEELS.items():
        with tempfile.TemporaryDirectory() as folder:
            table[name] = real(wheels, name.split()[0], Path(folder))
    return table


if __name__ == "__main__":
    TABLE.write_text(json.dumps(make(), indent=1, sort_keys=True) + "\n")
