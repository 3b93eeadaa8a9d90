"""What a command line of ours is: commands imported when they are asked for, every fault one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, NoReturn, get_args

import click

from agent import __version__, log
from agent.errors import AgentError, InputMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

EX_SOFTWARE, EX_IOERR = 70, 74
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of standard output: what else is written, the commands explain themselves."""
_FIRST = ("-v", "--verbose", "--log-format")
"""Options that all commands have, and that stand before them."""
_OURS = ("agent", "calibration")
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Settings of every command line's top."""


def command_line(program: str, commands: Mapping[str, str], *, about: str, formats: str) -> click.Group:
    """Return the top of the command line `program`: `about` is its help, `formats` that of --log-format.

    `commands` (name -> "module:object") keep their order; each is imported when it is asked for.
    """

    @click.group(cls=_lazy_group(commands), context_settings=_CONTEXT, help=about)
    @click.version_option(__version__, "-V", "--version", prog_name=program)
    @click.option("-v", "--verbose", count=True, help="Say more; -vv for everything.")
    @click.option(
        "--log-format", type=click.Choice(get_args(log.Form)), default="auto", show_default=True, help=formats
    )
    def cli(verbose: int, log_format: log.Form) -> None:
        log.setup(verbose, log_format, program=program)

    return cli


def _lazy_group(commands: Mapping[str, str]) -> type[click.Group]:
    class Lazy(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
            return list(commands)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
            if cmd_name not in commands:
                return None
            module, _, name = commands[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command

    return Lazy


def run(cli: click.Command, program: str, *, extra: str = "") -> NoReturn:
    """Run the command line `cli`; every fault becomes one line in the log and an exit code.

    `extra` names the extra of the distribution that brings the packages which the commands import.
    """
    log.setup(program=program)
    code = _run_commands(cli, program, extra)
    logging.shutdown()
    if any(thread.daemon for thread in threading.enumerate()):
        # A thread that hangs in native code (a camera that never answers) would crash the interpreter's end.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _run_commands(cli: click.Command, program: str, extra: str) -> int:
    """Return the exit code."""
    try:
        prefix = program.upper().replace("-", "_")
        code = cli.main(standalone_mode=False, prog_name=program, auto_envvar_prefix=prefix)
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2: a group without a command
            error.show()
            return error.exit_code
        context = getattr(error, "ctx", None)
        command = context.command_path if context else program
        first = getattr(error, "option_name", "") in _FIRST
        hint = "It goes before the command." if first and context and context.parent else ""
        _complain(program, " ".join(f"{error.format_message()} {hint} See `{command} --help`.".split()))
        return error.exit_code
    except AgentError as error:
        _complain(program, str(error))
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
            _complain(program, f"can't write: {error.strerror}; make room, or write elsewhere")
            return EX_IOERR
        if extra and isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(_OURS):
            _complain(program, f"{error.name} is not installed; pip install 'edge-agent[{extra}]'")
            return InputMissing.exit_code
        if logging.getLogger().isEnabledFor(logging.INFO):
            traceback.print_exc()
        _complain(
            program, f"internal error: {type(error).__name__}: {error}; run again with -v and report it"
        )
        return EX_SOFTWARE
    return code if isinstance(code, int) else 0


def _complain(program: str, line: str) -> None:
    logging.getLogger(program).error("%s", line)
