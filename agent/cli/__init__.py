"""`edge-agent`: the command line. Each command is a few lines that call the module which does the work."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
import threading
import traceback
from typing import NoReturn, get_args

import click

from agent import __version__, log
from agent.errors import AgentError

EX_SOFTWARE, EX_IOERR = 70, 74
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of standard output: what else is written, the commands explain themselves."""
_FIRST = ("-v", "--verbose", "--log-format")
"""Options that all commands have, and that stand before them."""
COMMANDS = {
    "run": "agent.cli.run:run",
    "demo": "agent.cli.demo:demo",
    "config": "agent.cli.config:config",
    "model": "agent.cli.model:model",
    "probe": "agent.cli.probe:probe",
    "cameras": "agent.cli.cameras:cameras",
    "check": "agent.cli.check:check",
    "status": "agent.cli.status:status",
    "outbox": "agent.cli.outbox:outbox",
    "events": "agent.cli.events:events",
    "system": "agent.cli.system:system",
    "bench": "agent.cli.bench:bench",
}
"""Where each command is; imported when it is asked for, so that none pays for the others."""


class _Commands(click.Group):
    """The commands of COMMANDS, in its order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, "-V", "--version", prog_name="edge-agent")
@click.option("-v", "--verbose", count=True, help="Say more; -vv for everything.")
@click.option(
    "--log-format",
    type=click.Choice(get_args(log.Form)),
    default="auto",
    show_default=True,
    help="journal: with fields, for systemd; json: a JSON object a line; auto: journal or plain.",
)
def cli(verbose: int, log_format: log.Form) -> None:
    """Video inference on small boards, with events over MQTT that are never silently lost."""
    log.setup(verbose, log_format)


def main() -> NoReturn:
    """Run the command line; every fault becomes one line in the log and an exit code."""
    log.setup()
    code = _run_commands()
    logging.shutdown()
    if any(thread.daemon for thread in threading.enumerate()):
        # A thread that hangs in native code (a camera that never answers) would crash the interpreter's end.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _run_commands() -> int:
    """Return the exit code."""
    try:
        code = cli.main(standalone_mode=False, prog_name="edge-agent", auto_envvar_prefix="EDGE_AGENT")
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2: a group without a command
            error.show()
            return error.exit_code
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "edge-agent"
        first = getattr(error, "option_name", "") in _FIRST
        hint = "It goes before the command." if first and context and context.parent else ""
        _complain(" ".join(f"{error.format_message()} {hint} See `{command} --help`.".split()))
        return error.exit_code
    except AgentError as error:
        _complain(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EX_IOERR
    except Exception as error:  # noqa: BLE001  the outermost loop: users get one line
        if isinstance(error, OSError) and error.errno in _FULL:
            _complain(f"can't write: {error.strerror}; make room, or write elsewhere")
            return EX_IOERR
        if logging.getLogger().isEnabledFor(logging.INFO):
            traceback.print_exc()
        _complain(f"internal error: {type(error).__name__}: {error}; run again with -v and report it")
        return EX_SOFTWARE
    return code if isinstance(code, int) else 0


def _complain(line: str) -> None:
    logging.getLogger("edge-agent").error("%s", line)
