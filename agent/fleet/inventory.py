"""What is in a release, for people and for scanners: licences, and a bill of materials in CycloneDX."""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from agent.fleet.release import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.fleet.release import Release
    from agent.fleet.wheel import Wheel

_RULE = "=" * 79


def sbom_of(release: Release, wheels: Iterable[Wheel]) -> bytes:
    """Return the bill of materials as CycloneDX 1.5 JSON: https://cyclonedx.org/docs/1.5/json/."""
    parts = _by_project(wheels)
    refs: dict[str, list[str]] = defaultdict(list)
    for (name, _), same in parts.items():
        refs[name].append(_ref(same[0]))
    components = [_component(same) for same in parts.values()]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'edge-agent/{release.name}')}",
        "version": 1,
        "metadata": {
            "timestamp": release.made,
            "component": next(each for each in components if each["name"] == PROJECT)
            | {"type": "application"},
        },
        "components": [each for each in components if each["name"] != PROJECT],
        "dependencies": [
            {
                "ref": _ref(same[0]),
                "dependsOn": sorted({ref for each in same for n in each.needs for ref in refs.get(n, ())}),
            }
            for same in parts.values()
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def licences_of(wheels: Iterable[Wheel]) -> str:
    """Return each component with its licence, and after that the texts that its wheels hold."""
    parts = _by_project(wheels)
    heads = [f"{name} {version}: {_licence(same)}" for (name, version), same in parts.items()]
    texts = []
    for (name, version), same in parts.items():
        found = dict.fromkeys((file, text) for each in same for file, text in each.texts)
        body = "\n\n".join(f"--- {file}\n\n{text.strip()}" for file, text in found)
        texts.append(f"{_RULE}\n{name} {version}\n{_RULE}\n\n{body or 'Its wheel holds no licence text.'}\n")
    return "\n".join(["What this release consists of, and by what licence:", "", *heads, "", *texts])


def _by_project(wheels: Iterable[Wheel]) -> Mapping[tuple[str, str], list[Wheel]]:
    """Return the wheels of each project and version, all in order."""
    found: dict[tuple[str, str], list[Wheel]] = defaultdict(list)
    for wheel in sorted(wheels, key=lambda each: (each.name, each.version, each.file)):
        found[wheel.name, wheel.version].append(wheel)
    return found


def _ref(wheel: Wheel) -> str:
    """Return the package URL: https://github.com/package-url/purl-spec."""
    return f"pkg:pypi/{wheel.name}@{wheel.version}"


def _licence(same: list[Wheel]) -> str:
    return " / ".join(dict.fromkeys(each.licence for each in same if each.licence)) or "not told by its wheel"


def _component(same: list[Wheel]) -> dict[str, Any]:
    wheel = same[0]
    licence = {"expression": wheel.licence} if wheel.is_spdx else {"license": {"name": _licence(same)}}
    files = [
        {"type": "file", "name": each.file, "hashes": [{"alg": "SHA-256", "content": each.sha256}]}
        for each in same
    ]
    return {
        "type": "library",
        "bom-ref": _ref(wheel),
        "name": wheel.name,
        "version": wheel.version,
        "description": wheel.summary,
        "licenses": [licence],
        "purl": _ref(wheel),
        "components": files,
    }
