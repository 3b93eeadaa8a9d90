#!/usr/bin/python
"""Wait on the device until its agent has been healthy for a while."""

import json
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.edge_agent_judge import judge

DOCUMENTATION = r"""
module: edge_agent_gate
short_description: Wait until the Edge Agent has been healthy for a while
description:
  - Asks the agent on the device every two seconds how it does, and compares with before.
  - Fails when it has not been healthy for C(hold_s) in one go within C(timeout_s), or does not answer.
options:
  program: {description: Path of edge-agent., type: path, required: true}
  version: {description: The version that is to run; empty for any., type: str, default: ""}
  model: {description: The sha of the bundle that is to run; empty for any., type: str, default: ""}
  before: {description: What C(edge-agent status --json) told before the change., type: dict, default: {}}
  verdict:
    description: The worst verdict that is good enough; one that was worse before is, too.
    type: str
    choices: [ok, degraded]
    default: ok
  fps:
    description: To this share of before the inferences a second may fall; 0 to leave out.
    type: float
    default: 0.8
  latency:
    description: To this multiple of before the 95th percentiles may rise; 0 to leave out.
    type: float
    default: 1.5
  latency_ms: {description: And by so much more., type: float, default: 20}
  hold_s: {description: So long it must be healthy in one go., type: float, default: 30}
  timeout_s: {description: After so long it is given up., type: float, default: 240}
author: The Edge Agent project
"""
EXAMPLES = r"""
- name: Wait until the device is healthy
  edge_agent_gate:
    program: /opt/edge-agent/current/bin/edge-agent
    version: 0.2.0
"""
RETURN = r"""
waited_s: {description: How long it took., type: float, returned: always}
status: {description: What the agent told last of what is compared., type: dict, returned: always}
"""

_POLL_S = 2.0
_ANSWER_S = 20.0
_TOLD = ("version", "model", "verdict", "reasons", "fps", "infer_ms", "age_ms")


def ask(program):
    """Return the agent's status and "", or {} and why there is none."""
    try:
        done = subprocess.run(  # noqa: S603
            [program, "status", "--json"], capture_output=True, timeout=_ANSWER_S, check=False
        )
        status = json.loads(done.stdout)
    except ValueError:
        return {}, f"no answer: {done.stderr.decode(errors='replace').strip()}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, f"no answer: {error}"
    return (status, "") if isinstance(status, dict) else ({}, "no answer: no status")


def wait(program, before, limits, *, hold_s, timeout_s):
    """Return the last status, what was wrong with it, and how long it took in seconds."""
    begin_s = time.monotonic()
    since_s = pid = None
    while True:
        status, silence = ask(program)
        faults = [silence] if silence else judge(status, before, limits)
        now_s = time.monotonic()
        if faults or status.get("pid") != pid:
            since_s, pid = (None, None) if faults else (now_s, status.get("pid"))
        if since_s is not None and now_s - since_s >= hold_s:
            return status, [], now_s - begin_s
        if now_s - begin_s >= timeout_s:
            return status, faults or [f"healthy for less than {hold_s:g} s"], now_s - begin_s
        time.sleep(_POLL_S)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "version": {"type": "str", "default": ""},
            "model": {"type": "str", "default": ""},
            "before": {"type": "dict", "default": {}},
            "verdict": {"type": "str", "choices": ["ok", "degraded"], "default": "ok"},
            "fps": {"type": "float", "default": 0.8},
            "latency": {"type": "float", "default": 1.5},
            "latency_ms": {"type": "float", "default": 20.0},
            "hold_s": {"type": "float", "default": 30.0},
            "timeout_s": {"type": "float", "default": 240.0},
        },
        supports_check_mode=True,
    )
    given = module.params
    limits = {key: given[key] for key in ("version", "model", "verdict", "fps", "latency", "latency_ms")}
    times = {key: given[key] for key in ("hold_s", "timeout_s")}
    status, faults, waited_s = wait(given["program"], given["before"], limits, **times)
    told = {"status": {key: status.get(key) for key in _TOLD}, "waited_s": round(waited_s, 1)}
    if faults:
        module.fail_json(msg=f"not healthy within {given['timeout_s']:g} s: {'; '.join(faults)}", **told)
    module.exit_json(changed=False, **told)


if __name__ == "__main__":
    main()
