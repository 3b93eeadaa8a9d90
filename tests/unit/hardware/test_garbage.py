"""Nothing that a file can hold, and no kind of file, makes the probe fail."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.backends.usable import usable_backends
from agent.hardware import Facts, default_threads, identify, read_facts, read_sensors, read_throttling
from agent.select import plan
from tests.unit.hardware.boards import TREES

NAMES = sorted(
    {name for tree in TREES.values() for name in tree.files()}
    | {
        "sys/firmware/devicetree/base/compatible",
        "sys/class/thermal/thermal_zone0/trip_point_0_type",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp",
        "sys/class/thermal/cooling_device0/type",
        "sys/class/thermal/cooling_device0/cur_state",
        "sys/devices/platform/soc/soc:firmware/get_throttled",
        "dev/vcio",
        "var/lib/nvpmodel/status",
        "etc/nvpmodel.conf",
    }
)
REAL = [
    content if isinstance(content, bytes) else content.encode()
    for tree in TREES.values()
    for content in tree.files().values()
]
BROKEN = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(REAL).flatmap(
        lambda real: st.integers(0, len(real)).map(lambda cut: real[:cut] + b"\xff\0\n" + real[cut // 2 :])
    ),
    st.sampled_from(
        [b"9" * 5000, b"-1", b"\xc2\xb2", b"0-999999999999", b"999999999999", b"\0" * 50, b": :\n:"]
    ),
)


def look(root: Path) -> None:
    """Do all that the probe does with files, to the JSON."""
    board = identify(read_facts(root))
    chosen = plan(board, (), usable_backends(board, None))
    assert 1 <= chosen.threads < 4096
    for struct in (board, read_sensors(root), read_throttling(root), chosen):
        msgspec.json.decode(msgspec.json.encode(struct))
    assert board.name.isprintable()
    assert board.model is None or board.model.isprintable()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), BROKEN, max_size=len(NAMES)))
@example(dict.fromkeys(NAMES, b"\xff"))
@example(dict.fromkeys(NAMES, b"9" * 400))
@example(dict.fromkeys(NAMES, b"MemTotal: 999999999999 kB"))
@example(dict.fromkeys(NAMES, b"# R999 (release), REVISION: 999.999"))
def test_random_bytes_in_any_file(files: dict[str, bytes]) -> None:
    """Reading, identifying and planning never raise, and what comes out can be printed and encoded."""
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            path = Path(place) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        look(Path(place))


@given(
    st.builds(
        Facts,
        compatible=st.none()
        | st.lists(st.text() | st.sampled_from(["nvidia,tegra234", "raspberrypi,"])).map(tuple),
        cpuinfo=st.none() | st.text(),
        meminfo=st.none() | st.text(),
        os_release=st.none() | st.text(),
        nv_tegra_release=st.none() | st.text(),
        packages=st.dictionaries(st.sampled_from(["libnvinfer10", "tensorrt", "nvidia-l4t-core"]), st.text()),
        machine=st.none() | st.text(),
        userland_machine=st.none() | st.text(),
        userland_bits=st.sampled_from([None, 32, 64]),
        cpus_online=st.none() | st.text(),
    )
)
def test_any_facts_have_a_board(facts: Facts) -> None:
    """The pure part takes whatever text there is."""
    assert identify(facts).name


def test_files_that_are_no_files(tmp_path: Path) -> None:
    """Directories, FIFOs that nobody writes to, loops of links and unreadable files are as good as missing."""
    kinds = [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name), lambda path: path.touch(mode=0)]
    for number, name in enumerate(NAMES):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kinds[number % len(kinds)](path)
    look(tmp_path)


def test_an_empty_tree(tmp_path: Path) -> None:
    """Nothing at all is an unknown board with one thread."""
    look(tmp_path)
    board = identify(read_facts(tmp_path))
    assert (board.kind, board.usable_cpus, default_threads(board.usable_cpus)) == ("unknown", 1, 1)
