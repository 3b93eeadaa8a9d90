"""Runs one of our modules as a child that ends with its parent, and leaves that the processor.

`python -m agent.leashed PARENT MODULE [ARGUMENT ...]`.
"""

from __future__ import annotations

import os
import runpy
import sys

from agent.ownprogram import command_of, end_with

_NICE = 10


def leashed(module: str, *arguments: str) -> list[str]:
    """Return what runs `module` with `arguments` as such a child of this process."""
    return command_of("agent.leashed", str(os.getpid()), module, *arguments)


def main() -> None:
    """Run the module that the command line names."""
    parent, module, *arguments = sys.argv[1:]
    end_with(int(parent))
    os.nice(_NICE)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
