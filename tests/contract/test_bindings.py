"""Every name that our code uses of TensorRT and CUDA is in the real bindings of each version; the doubles have it too.

The real ones are too large for each run: bindings.json holds what they have, and a long test makes it anew.
"""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

import pytest

from tests import doubles
from tests.contract.bindings_surface import TABLE, WHEELS, make, used

REAL: dict[str, dict[str, list[str]]] = json.loads(TABLE.read_text())
PARTS = {
    "IBuilderConfig": "tensorrt.building._Config",
    "INetworkDefinition": "tensorrt.building._Network",
    "IOptimizationProfile": "tensorrt.building._Profile",
    "ITimingCache": "tensorrt.building._TimingCache",
    "ITensor": "tensorrt.building._Tensor",
    "ParserError": "tensorrt.building._ParserError",
    "ICudaEngine": "tensorrt.running.ICudaEngine",
    "IExecutionContext": "tensorrt.running.IExecutionContext",
}
"""Where the double has the classes that only its own functions make."""


@pytest.mark.parametrize("version", WHEELS)
def test_every_used_name_is_there(version: str) -> None:
    """Found by reading our own source, so that a new call is checked too: make the table anew for it."""
    names = used(version.split()[0])
    assert len(names) > 25
    assert [name for name in names if name not in REAL[version]] == []


def test_no_version_calls_a_parameter_otherwise() -> None:
    """What one version takes by a name and place the others take too, so that one call serves all."""
    for package in ("tensorrt", "cuda"):
        versions = [version for version in WHEELS if version.startswith(package)]
        for name in used(package):
            overloads = [set(REAL[version][name]) for version in versions]
            assert set.intersection(*overloads) or not any(overloads), name


@pytest.mark.parametrize("version", WHEELS)
def test_the_doubles_take_what_the_real_ones_take(version: str) -> None:
    """Each callable of a double has the parameters of one real overload, or of its beginning, by name."""
    with doubles.present():
        for name in used(version.split()[0]):
            thing = _double(version, name)
            if not inspect.isroutine(thing) or name == "ILogger.__init__":
                continue
            taken = ", ".join(each for each in inspect.signature(thing).parameters if each != "self")
            assert any(real.startswith(taken) for real in REAL[version][name]), (name, taken)


def _double(version: str, name: str) -> Any:
    """Return what the double has under `name`; a property or a field of a dataclass is found in the class too."""
    if version.startswith("cuda"):
        thing: Any = importlib.import_module("cuda.bindings.runtime")
        parts = name.split(".")
    else:
        owner, _, attribute = name.partition(".")
        module, _, found = PARTS.get(owner, f"tensorrt.{owner}").rpartition(".")
        thing, parts = importlib.import_module(module), [found, *filter(None, [attribute])]
    for part in parts:
        thing = getattr(thing, part, None)
    return thing


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_table_is_what_the_wheels_have() -> None:
    """Downloads them; the bindings of TensorRT 10.3 are for Python 3.12 at most."""
    try:
        made = make()
    except Exception as error:  # noqa: BLE001  whatever keeps this machine from the wheels
        pytest.skip(f"the wheels can't be had or looked at here: {error}")
    assert made == REAL
