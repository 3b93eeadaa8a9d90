"""What a release says of itself: pins, hashes, markers, licences, and what verify finds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pip._vendor.packaging.markers import Marker

from agent.errors import BadData, InputMissing
from agent.fleet.closure import GLIBC_MINORS, MACHINES
from agent.fleet.crosspip import environment
from agent.fleet.inventory import licences_of, sbom_of
from agent.fleet.release import Release, Target, hash12_of, requirements_of, verify
from agent.fleet.wheel import Wheel, read_wheel
from tests.unit.fleet.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = [Target(python, machine) for python in GLIBC_MINORS for machine in MACHINES]


def a_wheel(name: str, version: str = "1.0", **more: object) -> Wheel:
    """Return a wheel that is nowhere."""
    sha256 = f"{abs(hash((name, version))):064x}"[-64:]
    plain = Wheel(f"{name}-{version}-py3-none-any.whl", sha256, name, version, "", "MIT", True, (), ())
    return replace(plain, **more)  # type: ignore[arg-type]


RELEASE = Release(1, "1-abc", "1", "abc", ("3.11",), ("aarch64",), (), "2026-01-01T00:00:00Z")


@given(st.sets(st.sampled_from(TARGETS), min_size=1), st.data())
def test_each_target_gets_its_versions_and_no_other(every: set[Target], data: st.DataObject) -> None:
    """Whatever mixture of targets has another version of something: the markers say exactly which."""
    other = data.draw(st.sets(st.sampled_from(sorted(every))))
    closures = {t: [a_wheel("both"), a_wheel("one", "2.0" if t in other else "1.0")] for t in sorted(every)}
    lines = requirements_of(closures).replace(" \\\n    ", " ").splitlines()
    for target in every:
        seen = set()
        for line in lines:
            pin, _, rest = line.partition(" ; ")
            marker = rest.partition(" --hash")[0]
            if not marker or Marker(marker).evaluate(environment(target.python, target.machine)):
                seen.add(pin.partition(" ")[0])
        assert seen == {"both==1.0", "one==2.0" if target in other else "one==1.0"}


def test_hash_does_not_depend_on_order() -> None:
    """It is of the set of wheels."""
    wheels = [a_wheel(name) for name in "abc"]
    assert hash12_of(wheels) == hash12_of(reversed(wheels))
    assert hash12_of(wheels) != hash12_of(wheels[1:])


def test_what_a_wheel_says(tmp_path: Path) -> None:
    """Licences stand in three places; extras are no needs."""
    old = "License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License\n"
    needs = ("Paho_MQTT (>=2)", "x ; extra == 'all'")
    found = read_wheel(
        make_wheel(tmp_path, "Some.Thing", "1", head=old, needs=needs, texts={"COPYING": "words"})
    )
    assert (found.name, found.licence, found.is_spdx) == ("some-thing", "BSD License", False)
    assert found.needs == ("paho-mqtt",)
    assert found.texts == (("licenses/COPYING", "words"),)
    assert read_wheel(make_wheel(tmp_path, "b", "1")).is_spdx


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"not a zip"])
def test_what_is_no_wheel(tmp_path: Path, content: bytes) -> None:
    """Empty, an archive of nothing, anything else: one line that names the file."""
    path = tmp_path / "x-1-py3-none-any.whl"
    path.write_bytes(content)
    with pytest.raises(BadData, match=r"x-1-py3-none-any\.whl"):
        read_wheel(path)


def test_bill_of_materials_is_valid() -> None:
    """By the schema of CycloneDX, with a licence that SPDX does not know and one that it does."""
    strict = pytest.importorskip("cyclonedx.validation.json", reason="pip install cyclonedx-python-lib")
    from cyclonedx.schema import SchemaVersion

    wheels = [
        a_wheel("edge-agent", needs=("numpy",)),
        a_wheel("numpy", licence="BSD, and more", is_spdx=False),
        a_wheel("numpy", "2.0", licence="", is_spdx=False),
    ]
    text = sbom_of(RELEASE, wheels)
    assert strict.JsonStrictValidator(SchemaVersion.V1_5).validate_str(text.decode()) is None
    said = json.loads(text)
    assert said["metadata"]["component"]["purl"] == "pkg:pypi/edge-agent@1.0"
    assert said["dependencies"][0]["dependsOn"] == ["pkg:pypi/numpy@1.0", "pkg:pypi/numpy@2.0"]


def test_licences_stand_once() -> None:
    """The same text in the wheels of two machines is told once; a wheel without one is named too."""
    pair = [
        a_wheel("numpy", file=f"numpy-{machine}.whl", texts=(("LICENSE", "words of numpy"),))
        for machine in MACHINES
    ]
    text = licences_of([*pair, a_wheel("bare", licence="", is_spdx=False)])
    assert text.count("words of numpy") == 1
    assert "bare 1.0: not told by its wheel" in text
    assert "holds no licence text" in text


def test_nothing_there(tmp_path: Path) -> None:
    """Code 66 and the path."""
    with pytest.raises(InputMissing, match=r"release\.toml"):
        verify(tmp_path)
