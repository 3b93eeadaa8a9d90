"""The service on a really booted Debian 12: installed from wheels, hardened, killed, misconfigured, and taken away.

The base system and the wheels are made at the first run, in two minutes: tests/hosts/base.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.brokers import wait_for
from tests.hosts.base import Base, kept, make_base, skip_unless_possible
from tests.hosts.host import Host
from tests.hosts.local import Listener, broker

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
UNIT = "edge-agent.service"
AGENT = "/opt/edge-agent/bin/edge-agent"
CONFIG = """\
device = "h1"
state_dir = "/var/lib/edge-agent"

[mqtt]
host = "127.0.0.1"

[[camera]]
name = "yard"
source = "/srv/lab/long.mp4"
"""
MAX_EXPOSURE = 1.6
START_S, STOP_S, HANG_S, OPEN_TIMEOUT_S = 10, 20, 45, 10
OVERRIDE = f"/etc/systemd/system/{UNIT}.d"
HANGING = """\
import ctypes, os
from agent.backends.tflite import TFLiteEngine
from agent.cli import main

infer = TFLiteEngine.infer

def hanging_infer(self, tensor):
    for gil, library in (("released", ctypes.CDLL(None)), ("held", ctypes.PyDLL(None))):
        if os.path.exists("/run/edge-agent/hang-" + gil):
            library.sleep(3600)
    return infer(self, tensor)

TFLiteEngine.infer = hanging_infer
main()
"""
BREAKING = """\
import os
from agent.backends.tflite import TFLiteEngine
from agent.cli import main

infer = TFLiteEngine.infer

def breaking_infer(self, tensor):
    if os.path.exists("/srv/broken"):
        raise RuntimeError("the engine broke")
    return infer(self, tensor)

TFLiteEngine.infer = breaking_infer
main()
"""


@pytest.fixture(scope="module")
def base() -> Base:
    skip_unless_possible()
    return make_base(kept())


@pytest.fixture(scope="module")
def host(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Boot a host, and install the agent's wheel on it."""
    made = Host("h1", tmp_path_factory.mktemp("h1"), base)
    with made.plugged_in():
        made.boot()
        pip = ("/opt/edge-agent/bin/pip", "install", "--quiet", "--no-index", "--find-links=/srv/lab/wheels")
        made.run(*pip, "edge-agent")
        yield made


@pytest.fixture(scope="module")
def mosquitto(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    with broker(host, tmp_path_factory.mktemp("broker")) as process:
        yield process


@pytest.fixture(scope="module")
def listener(host: Host, mosquitto: subprocess.Popen[str]) -> Iterator[Listener]:
    heard = Listener(host)
    yield heard
    heard.close()


@pytest.fixture
def bare_host(base: Base, tmp_path: Path) -> Iterator[Host]:
    """Boot a host on which nothing was done yet, with a broker beside it."""
    made = Host("h2", tmp_path, base)
    with made.plugged_in():
        made.boot()
        with broker(made, tmp_path):
            yield made


@pytest.fixture
def service(host: Host, listener: Listener) -> Host:
    """Return the host with the service installed and at work."""
    host.run(AGENT, "system", "install")
    configure(host, CONFIG)
    host.run("systemctl", "enable", UNIT)
    host.run("systemctl", "restart", UNIT)
    return host


def configure(host: Host, text: str) -> None:
    """Write the configuration as root does."""
    host.run("sh", "-c", f"cat > /etc/edge-agent/config.toml <<'E'\n{text}E")


def last_end(listener: Listener, after: int) -> dict[str, str]:
    """Wait for a birth from line `after` on; return what it tells of the end before it."""
    online = '"state":"online"'
    births = lambda: [line for line in listener.lines[after:] if "/status " in line and online in line]  # noqa: E731
    wait_for(births, 30, "a birth")
    told: dict[str, str] = json.loads(births()[0].partition(" ")[2])["last_end"]
    return told


@contextlib.contextmanager
def replaced(host: Host, program: str, more: str = "") -> Iterator[None]:
    """Have `program` in place of the agent's own start for the `with` block."""
    host.run("sh", "-c", f"cat > /srv/replaced.py <<'E'\n{program}E")
    override = f"[Service]\nExecStart=\nExecStart=/opt/edge-agent/bin/python /srv/replaced.py run\n{more}"
    host.run("sh", "-c", f"mkdir -p {OVERRIDE}; printf '{override}' > {OVERRIDE}/replaced.conf")
    try:
        host.run("systemctl", "daemon-reload")
        yield
    finally:
        host.run("rm", "-r", OVERRIDE)
        host.run("systemctl", "daemon-reload")


def status(host: Host) -> dict[str, Any]:
    """Return what `edge-agent status` tells."""
    done = host.run(AGENT, "status", "--json", check=False)
    assert done.stdout, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_what_the_readme_says(bare_host: Host) -> None:
    """Every command of its section on the service, in order; the wheels are at hand, for there is no network."""
    section = (ROOT / "README.md").read_text().partition("\n## As a service\n")[2]
    if not section:
        pytest.skip("README.md has no section `As a service`")
    lines = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    commands = [line.partition("  #")[0].rstrip() for line in lines]
    assert any("system install" in command for command in commands)
    for command in commands:
        if "sudoedit" in command:
            configure(bare_host, CONFIG)
        elif "apt install" not in command:
            shell = ("sh", "-c", as_root(command))
            if "status" in command:  # a moment after the start the broker is not there yet: code 1
                done = functools.partial(bare_host.run, *shell, check=False)
                wait_for(lambda done=done: done().returncode == 0, 30, command)
            else:
                bare_host.run(*shell)
    assert bare_host.show(UNIT)["SubState"] == "running"


def as_root(command: str) -> str:
    """Return `command` as it is done on a host that has neither sudo nor a package index, and nobody who watches."""
    command = re.sub(
        r"(pip install) .*", r"\1 --quiet --no-index --find-links=/srv/lab/wheels edge-agent", command
    )
    command = command.replace("sudo -u edge-agent ", "runuser -u edge-agent -- ").removeprefix("sudo ")
    return command.replace("journalctl -fu", "journalctl --no-pager -u")


def test_first_installation(host: Host) -> None:
    """It makes the user and its groups, writes a configuration for root and the agent alone, and starts nothing."""
    shown = host.run(AGENT, "system", "install", "--dry-run").stdout
    assert "new      user edge-agent\n" in shown
    assert host.run("id", "edge-agent", check=False).returncode
    told = host.run(AGENT, "system", "install").stdout
    assert "systemctl enable edge-agent" in told
    groups = host.run("id", "-nG", "edge-agent").stdout.split()
    assert set(groups) == {"edge-agent", "video", "render"}
    mode = host.run("stat", "-c", "%a %U %G", "/etc/edge-agent", "/etc/edge-agent/config.toml").stdout
    assert mode.splitlines() == ["750 root edge-agent", "640 root edge-agent"]
    assert host.show(UNIT)["ActiveState"] == "inactive"
    assert "nothing to change" in host.run(AGENT, "system", "install").stdout
    own = host.run(
        "setpriv", "--reuid=edge-agent", "--regid=edge-agent", "--init-groups", AGENT, "config", "show"
    )
    assert 'state_dir = "/var/lib/edge-agent"' in own.stdout


def test_the_unit_is_good(service: Host) -> None:
    """The manager finds no fault in it, and its exposure is what was promised."""
    assert not service.run("systemd-analyze", "verify", UNIT).stderr
    rating = service.run("systemd-analyze", "security", "--no-pager", UNIT).stdout.splitlines()[-1]
    print(rating)
    assert float(rating.split(":")[1].split()[0]) <= MAX_EXPOSURE


def test_ready_with_the_first_inference(service: Host, listener: Listener) -> None:
    """`systemctl restart` comes back when there was one, in time, and events arrive of a network run by XNNPACK."""
    begin_s, heard = time.monotonic(), len(listener.lines)
    service.run("systemctl", "restart", UNIT)
    took_s = time.monotonic() - begin_s
    print(f"stop, start and first inference: {took_s:.1f} s")
    assert took_s < START_S
    shown = service.show(UNIT)
    assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
    (camera,) = status(service)["cameras"]
    assert camera["inferred"]
    wait_for(lambda: listener.has("edge/h1/events/yard", heard), 30, "an event")
    line = next(line for line in listener.lines[heard:] if "/events/yard" in line)
    assert json.loads(line.partition(" ")[2])["model"]["backend"] == "litert-xnnpack"
    service.wait_for(UNIT, lambda shown: shown["StatusText"] == "ok", 10, "the status to say ok")
    assert "warning" not in service.journal(UNIT)


def test_all_that_check_tries_works_in_the_sandbox(service: Host) -> None:
    """`edge-agent check` in a unit with every line of the hardening: XNNPACK takes the network, nothing is a fault."""
    text = service.run("systemctl", "cat", UNIT).stdout
    changes = {
        "Type=": "Type=oneshot",
        "ExecStart=": f"ExecStart={AGENT} check --json",
        "Restart=": "Restart=no\nStandardOutput=file:/var/lib/edge-agent/check.json",
        "WatchdogSec=": "",
    }
    for key, line in changes.items():
        text = "\n".join(line if old.startswith(key) else old for old in text.splitlines())
    service.run("sh", "-c", f"cat > /run/systemd/system/check.service <<'E'\n{text}\nE")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "start", "check", check=False)
    rows = json.loads(service.run("cat", "/var/lib/edge-agent/check.json").stdout)["findings"]
    assert not [row for row in rows if row["state"] == "fault"]
    model = next(row for row in rows if row["what"].startswith("model"))
    assert "XNNPACK runs it in" in model["seen"]


def test_check_beside_the_service(service: Host) -> None:
    """As the operator is told to run it: as the service's user, while it runs."""
    done = service.run("runuser", "-u", "edge-agent", "--", AGENT, "check", "--json", check=False)
    rows = json.loads(done.stdout)["findings"]
    assert not [row for row in rows if row["state"] == "fault"]
    assert any(
        row["seen"].startswith("/var/lib/edge-agent: ") for row in rows if row["what"] == "state directory"
    )


def test_a_read_only_etc(service: Host) -> None:
    """The service needs nothing there; an installation that has something to write says that it can't."""
    service.run("mount", "--bind", "/etc", "/etc")
    service.run("mount", "-o", "remount,bind,ro", "/etc")
    try:
        service.run("systemctl", "restart", UNIT)
        assert service.show(UNIT)["SubState"] == "running"
        service.run("rm", f"/usr/local/lib/systemd/system/{UNIT}")
        done = service.run(AGENT, "system", "install", check=False)
    finally:
        service.run("umount", "/etc")
    assert (done.returncode, len(done.stderr.splitlines())) == (73, 1)
    assert "Read-only file system" in done.stderr


def test_killed_it_comes_back(service: Host, listener: Listener) -> None:
    """After kill -9 systemd starts it again, says so, and its events are those of a new epoch."""
    before, births = service.show(UNIT), len(listener.lines)
    wait_for(lambda: listener.has("edge/h1/events", births), 30, "an event")
    births, begin_s = len(listener.lines), time.monotonic()
    service.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT)
    again = (int(before["NRestarts"]) + 1, "running")
    service.wait_for(UNIT, lambda now: (int(now["NRestarts"]), now["SubState"]) == again, 30, "it to be back")
    print(f"killed -> first inference: {time.monotonic() - begin_s:.1f} s")
    assert last_end(listener, births)["reason"] == "killed"
    heard = len(listener.lines)
    wait_for(lambda: listener.has("edge/h1/events", heard), 30, "an event of the new process")


def test_a_frozen_process_is_ended_by_the_watchdog(service: Host) -> None:
    """A process that does nothing any more is aborted and started again within 45 s."""
    before = service.show(UNIT)
    begin_s = time.monotonic()
    service.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", UNIT)
    again = (int(before["NRestarts"]) + 1, "running")
    service.wait_for(UNIT, lambda now: (int(now["NRestarts"]), now["SubState"]) == again, 60, "the watchdog")
    took_s = time.monotonic() - begin_s
    print(f"frozen -> first inference: {took_s:.1f} s")
    assert took_s < HANG_S


@pytest.mark.parametrize("gil", ["released", "held"])
def test_a_call_that_hangs_is_ended(service: Host, listener: Listener, gil: str) -> None:
    """The engine's native call never returns: back within 45 s, the stacks in the journal and in the next birth."""
    with replaced(service, HANGING):
        service.run("systemctl", "restart", UNIT)
        births = len(listener.lines)
        wait_for(lambda: listener.has("edge/h1/events", births), 30, "an event")
        births = len(listener.lines)
        before = int(service.show(UNIT)["NRestarts"])
        begin_s = time.monotonic()
        service.run("touch", f"/run/edge-agent/hang-{gil}")
        back = (before + 1, "running")
        service.wait_for(
            UNIT, lambda now: (int(now["NRestarts"]), now["SubState"]) == back, 60, "the watchdog"
        )
        took_s = time.monotonic() - begin_s
    print(f"engine hangs, GIL {gil} -> first inference: {took_s:.1f} s")
    assert took_s < HANG_S
    told = last_end(listener, births)
    print(f"its last words: {told['detail']}")
    assert told["reason"] == "aborted"
    assert ("stuck: engine" in told["detail"]) == (gil == "released")
    assert "thread: hanging_infer (srv/replaced.py:" in told["detail"]
    assert "thread: hanging_infer (srv/replaced.py:" in service.journal(UNIT)


def test_a_crash_loop_is_slowed(service: Host, listener: Listener) -> None:
    """From the third bad end in a row starts wait, longer than a start may take; a stop is at once all the same."""
    service.run("systemctl", "stop", UNIT)
    with replaced(service, BREAKING, "TimeoutStartSec=8\\n"):
        service.run("touch", "/srv/broken")
        service.run("systemctl", "start", "--no-block", UNIT)
        service.wait_for(
            UNIT, lambda now: "starting in 10 s" in now.get("StatusText", ""), 90, "a start to wait"
        )
        births = len(listener.lines)
        service.run("rm", "/srv/broken")
        count = service.show(UNIT)["NRestarts"]
        waited_s = service.wait_for(UNIT, lambda now: now["SubState"] == "running", 30, "it to be back")
        assert waited_s > 8
        assert service.show(UNIT)["NRestarts"] == count
        assert "RuntimeError: the engine broke" in last_end(listener, births)["detail"]
        service.run("touch", "/srv/broken")
        service.wait_for(
            UNIT, lambda now: "starting in 30 s" in now.get("StatusText", ""), 90, "a start to wait"
        )
        begin_s = time.monotonic()
        service.run("systemctl", "stop", UNIT)
        assert time.monotonic() - begin_s < 5
        assert service.show(UNIT)["Result"] == "success"
        service.run("rm", "/srv/broken")


@pytest.mark.parametrize("limit", ["TasksMax=8", "MemoryMax=40M"])
def test_a_limit_that_is_hit_costs_a_restart(service: Host, listener: Listener, limit: str) -> None:
    """Too few threads or too little memory end the process; it is tried again until there is enough."""
    service.run("systemctl", "set-property", "--runtime", UNIT, limit)
    service.run("systemctl", "restart", "--no-block", UNIT)
    service.wait_for(UNIT, lambda now: int(now["NRestarts"]) > 0, 60, "it to hit the limit")
    service.run("systemctl", "set-property", "--runtime", UNIT, f"{limit.partition('=')[0]}=infinity")
    service.wait_for(UNIT, lambda now: now["SubState"] == "running", 60, "it to be back")
    heard = len(listener.lines)
    wait_for(lambda: listener.has("edge/h1/events", heard), 30, "an event")


def test_what_is_away_is_no_reason_to_restart(service: Host) -> None:
    """No broker, no camera, and a full disk, for longer than the watchdog and a call may take."""
    service.run("systemctl", "stop", UNIT)
    service.run("mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", "/var/lib/edge-agent")
    away = CONFIG.replace('host = "127.0.0.1"', 'host = "127.0.0.1"\nport = 2')
    configure(service, away + '\n[[camera]]\nname = "door"\nsource = "rtsp://127.0.0.1:3/x"\n')
    try:
        service.run("systemctl", "start", UNIT)
        before = service.show(UNIT)
        service.run("sh", "-c", "cat /dev/zero > /var/lib/edge-agent/others", check=False)
        threading.Event().wait(HANG_S)
        shown, told = service.show(UNIT), status(service)
    finally:
        service.run("systemctl", "stop", UNIT)
        service.run("umount", "/var/lib/edge-agent")
    assert (shown["NRestarts"], shown["MainPID"]) == (before["NRestarts"], before["MainPID"])
    assert told["verdict"] == "degraded"
    assert {reason.partition(":")[0] for reason in told["reasons"]} == {"broker", "camera door", "outbox"}


def test_after_a_power_cut_it_is_there_by_itself(service: Host, listener: Listener) -> None:
    """Enabled, it starts with the host."""
    service.power_cut()
    heard, begin_s = len(listener.lines), time.monotonic()
    service.boot()
    service.wait_for(UNIT, lambda now: now["SubState"] == "running", 60, "the service to start")
    wait_for(lambda: listener.has("edge/h1/events", heard), 30, "an event")
    print(f"power -> first event: {time.monotonic() - begin_s:.1f} s")


def test_a_camera_that_is_silent_is_told_before_ready(service: Host) -> None:
    """It starts when it is clear that there is nothing to infer from, and not before; the status names the camera."""
    silent = "import signal, socket; camera = socket.create_server(('127.0.0.1', 554)); signal.pause()"
    camera = service.beside(sys.executable, "-c", silent)
    try:
        configure(service, CONFIG.replace("/srv/lab/long.mp4", "rtsp://127.0.0.1/silent"))
        begin_s = time.monotonic()
        service.run("systemctl", "restart", UNIT)
        took_s = time.monotonic() - begin_s
    finally:
        camera.kill()
        camera.wait()
    print(f"silent camera -> ready: {took_s:.1f} s")
    assert took_s > OPEN_TIMEOUT_S / 2
    assert service.show(UNIT)["StatusText"].startswith("degraded: camera yard: down")
    assert service.show(UNIT)["NRestarts"] == "0"


def test_stop_is_in_time_and_clean(service: Host) -> None:
    """It ends with success before systemd's patience does."""
    begin_s = time.monotonic()
    service.run("systemctl", "stop", UNIT)
    took_s = time.monotonic() - begin_s
    print(f"stop: {took_s:.1f} s")
    shown = service.show(UNIT)
    assert took_s < STOP_S / 2
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")


def test_stop_in_the_middle_of_a_publish(
    service: Host, mosquitto: subprocess.Popen[str], listener: Listener
) -> None:
    """A broker that takes messages and answers nothing holds up neither the stop nor what comes after it."""
    mosquitto.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: status(service)["broker"]["in_flight"], 30, "a message in flight")
        begin_s = time.monotonic()
        service.run("systemctl", "stop", UNIT)
        took_s = time.monotonic() - begin_s
    finally:
        mosquitto.send_signal(signal.SIGCONT)
    print(f"stop with a silent broker: {took_s:.1f} s")
    assert took_s < STOP_S
    assert service.show(UNIT)["Result"] == "success"
    heard = len(listener.lines)
    service.run("systemctl", "start", UNIT)
    wait_for(lambda: listener.has("edge/h1/events", heard), 30, "what was kept")


def test_without_a_broker_it_ends_well_too(service: Host) -> None:
    """Code 75, everything is kept, is no failure; while it runs the status says what is wrong."""
    configure(service, CONFIG.replace('host = "127.0.0.1"', 'host = "127.0.0.1"\nport = 2'))
    service.run("systemctl", "restart", UNIT)
    service.wait_for(UNIT, lambda now: "broker" in now["StatusText"], 15, "the status to tell of the broker")
    service.run("systemctl", "stop", UNIT)
    shown = service.show(UNIT)
    assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success")


def test_a_bad_configuration_is_not_tried_again(service: Host) -> None:
    """Code 78 and one line; after the configuration is mended it starts."""
    configure(service, CONFIG.replace("source", "sorce"))
    service.run("systemctl", "restart", UNIT, check=False)
    service.wait_for(UNIT, lambda now: now["ActiveState"] == "failed", 20, "it to fail")
    shown = service.show(UNIT)
    assert (shown["ExecMainStatus"], shown["NRestarts"]) == ("78", "0")
    assert "unknown key: camera.sorce (yard)" in service.journal(UNIT)
    configure(service, CONFIG)
    service.run("systemctl", "start", UNIT)
    assert service.show(UNIT)["SubState"] == "running"


def test_reload_keeps_the_process(service: Host) -> None:
    """`systemctl reload` reads the configuration again: another camera, the same process; a bad one changes nothing."""
    before = service.show(UNIT)["MainPID"]
    configure(service, CONFIG + '\n[[camera]]\nname = "door"\nsource = "/srv/lab/long.mp4"\n')
    service.run("systemctl", "reload", UNIT)

    wait_for(lambda: len(status(service)["cameras"]) == 2, 20, "the second camera")
    service.wait_for(UNIT, lambda now: now["ActiveState"] == "active", 10, "the reload to be over")
    configure(service, CONFIG.replace("source", "sorce"))
    service.run("systemctl", "reload", UNIT)
    wait_for(lambda: "reload: " in service.journal(UNIT), 20, "the bad file to be told of")
    service.wait_for(UNIT, lambda now: now["ActiveState"] == "active", 10, "the reload to be over")
    assert service.show(UNIT)["MainPID"] == before
    assert len(status(service)["cameras"]) == 2


def test_a_credential_is_the_brokers_password(service: Host) -> None:
    """What root put into /etc/credstore reaches the agent, and nobody else."""
    service.run(
        "sh",
        "-c",
        "umask 077; mkdir -p /etc/credstore; echo s3cret > /etc/credstore/edge-agent.mqtt-password",
    )
    login = 'host = "127.0.0.1"\nusername = "edge"\npassword_file = "mqtt-password"'
    configure(service, CONFIG.replace('host = "127.0.0.1"', login))
    service.run("systemctl", "restart", UNIT)
    assert service.show(UNIT)["SubState"] == "running"
    service.run("rm", "/etc/credstore/edge-agent.mqtt-password")
    service.run("systemctl", "restart", UNIT, check=False)
    service.wait_for(UNIT, lambda now: now["ExecMainStatus"] != "0", 20, "it to miss the credential")
    assert "password_file" in service.journal(UNIT)
    assert "s3cret" not in service.journal(UNIT)


def test_uninstalled_it_leaves_what_is_yours(service: Host) -> None:
    """Unit and helpers go, configuration and state stay; with --purge they and the user go as well."""
    service.run(AGENT, "system", "uninstall")
    assert service.show(UNIT)["LoadState"] == "not-found"
    assert service.run("sh", "-c", "find /usr/local/lib /etc/systemd -name 'edge-agent*'").stdout == ""
    service.run("test", "-f", "/etc/edge-agent/config.toml")
    service.run("test", "-f", "/var/lib/edge-agent/outbox.db")
    service.run(AGENT, "system", "uninstall", "--purge")
    assert service.run("id", "edge-agent", check=False).returncode
    left = service.run(
        "find", "/etc", "/var/lib", "/run", "-xdev", "-name", "edge-agent*", check=False
    ).stdout
    assert left == ""
