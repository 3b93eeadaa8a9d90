"""The log in a real journal: systemd-journald in a mount namespace of its own, read with journalctl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.patience import HANGS_S

JOURNALD = Path("/lib/systemd/systemd-journald")
NAMESPACE = ("unshare", "--mount", "--propagation", "private")
HOST = f"""
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
{JOURNALD} 2>/dev/null &
journald=$!
for _ in $(seq 1000); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
"$@" >&2
journalctl --sync
journalctl -D /run/log/journal -o json --no-pager SYSLOG_IDENTIFIER=edge-agent
kill $journald
wait $journald || true
"""
UNDER_SYSTEMD = """
import os, socket, subprocess, sys
link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
link.connect("/run/systemd/journal/stdout")
link.sendall(b"edge-agent\\n\\n6\\n0\\n0\\n0\\n0\\n")  # identifier, unit, priority, four switches
seen = os.fstat(link.fileno())
environ = os.environ | {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}
done = subprocess.run(sys.argv[1:], stderr=link, env=environ)
print("exit code", done.returncode)
"""
PACKAGES = Path("/usr/lib/python3/dist-packages/systemd")
LOGGING = """
import logging, sys
if not sys.argv[1]:
    sys.modules["systemd"] = None
sys.path.append(sys.argv[1])
from agent import journald, log
assert (journald.library() is not None) == bool(sys.argv[1])
log.setup(0, "journal")
camera = logging.getLogger("agent.camera")
for name in ("yard", "door"):
    camera.warning("camera %s: %s", name, "rtsp://me:hunter2@cam/1 is away")
camera.info("camera %s: event %s begins", "yard", "e-1")
camera.debug("not shown")
try:
    raise OSError("mqtt://me:hunter2@broker")
except OSError:
    camera.exception("of several lines")
"""


def in_the_journal(*command: str) -> list[dict[str, Any]]:
    """Run `command` on a host with a journal; return the entries it left there."""
    if os.geteuid() != 0:
        pytest.skip("a mount namespace needs root")
    if not JOURNALD.exists() or not shutil.which("journalctl"):
        pytest.skip("systemd-journald is not installed")
    if subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/run"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", HOST, "sh", *command],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def systemd_python(folder: Path) -> str:
    """Return a directory with Debian's python3-systemd and no other of its packages; skips where it is not there."""
    (folder / "systemd").symlink_to(PACKAGES)
    found = "import sys; sys.path.append(sys.argv[1]); import systemd.journal"
    command = [sys.executable, "-c", found, str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("python3-systemd is not installed for this Python")
    return str(folder)


@pytest.mark.parametrize("library", [False, True], ids=["own protocol", "systemd-python"])
def test_entries_have_their_fields(tmp_path: Path, library: bool) -> None:
    """CAMERA, EVENT_ID and the kind can be asked for; a traceback is one entry; nothing is secret in it."""
    program = tmp_path / "logging_program.py"  # the journal notes the command line of who sends
    program.write_text(LOGGING)
    away, door, begins, lines = in_the_journal(
        sys.executable, str(program), systemd_python(tmp_path) if library else ""
    )
    assert away["MESSAGE"] == "camera yard: rtsp://***@cam/1 is away"
    assert [(e["CAMERA"], e["PRIORITY"]) for e in (away, door)] == [("yard", "4"), ("door", "4")]
    assert away["MESSAGE_ID"] == door["MESSAGE_ID"] != begins["MESSAGE_ID"]
    assert (begins["CAMERA"], begins["EVENT_ID"], begins["PRIORITY"]) == ("yard", "e-1", "6")
    assert lines["MESSAGE"].startswith("of several lines\nTraceback (most recent call last):\n")
    assert lines["_TRANSPORT"] == "journal"
    assert "hunter2" not in json.dumps([away, door, begins, lines])


def test_a_service_of_systemd_uses_the_journal_by_itself(tmp_path: Path) -> None:
    """With its standard error in the journal, `edge-agent` sends fields and no lines, the last fault included."""
    command = [sys.executable, "-m", "agent", "run", "--source", str(tmp_path / "missing.mp4")]
    entries = in_the_journal(sys.executable, "-c", UNDER_SYSTEMD, *command, "--state", str(tmp_path))
    assert "missing.mp4" in entries[-1]["MESSAGE"]
    assert (entries[-1]["_TRANSPORT"], entries[-1]["PRIORITY"]) == ("journal", "3")


def test_another_form_can_be_asked_for(tmp_path: Path) -> None:
    """JSON in place of the journal: the lines arrive over standard error as they are."""
    command = [
        sys.executable,
        "-m",
        "agent",
        "--log-format",
        "json",
        "run",
        "--source",
        str(tmp_path / "missing.mp4"),
    ]
    entries = in_the_journal(sys.executable, "-c", UNDER_SYSTEMD, *command, "--state", str(tmp_path))
    line = json.loads(entries[-1]["MESSAGE"])
    assert entries[-1]["_TRANSPORT"] == "stdout"
    assert line["level"] == "error"
    assert "missing.mp4" in line["message"]
