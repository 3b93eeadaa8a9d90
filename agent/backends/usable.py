"""Which backends can run on a board, and for each that can't: why, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.hardware.system import version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.backends.runtimes import Trial
    from agent.hardware import Board

TENSORRT_NEEDS = (10, 3)
_AGAIN = "try again when the device is less busy; `edge-agent check` tries it with a model"
_NOT_TRIED = "not tried: told from a tree of files"
_APT = (
    "sudo apt install tensorrt python3-libnvinfer (JetPack's, never pip),"
    " and make the venv with --system-site-packages"
)


class Backend(msgspec.Struct, frozen=True):
    """A backend, and whether it can run here; `reason` and `fix` say why not, or what to know about it.

    `usable` None: it is installed and could not be tried.
    """

    name: str
    usable: bool | None
    version: str | None = None
    reason: str = ""
    fix: str = ""


def usable_backends(board: Board, trials: Mapping[str, Trial] | None) -> tuple[Backend, ...]:
    """Say of every backend whether it can run on `board`; `trials` None: nothing was tried (a tree of files)."""
    tried = trials or {}
    return (
        _litert(board, tried.get("litert")),
        _tflite_runtime(board, tried.get("tflite-runtime")),
        _tensorrt(board, tried.get("tensorrt")),
    )


def _litert(board: Board, trial: Trial | None) -> Backend:
    name = "litert"
    if board.userland_bits == 32:
        reason = (
            f"LiteRT has no wheels for a 32-bit userland ({'armv7l' if _is_arm(board) else board.machine})"
        )
        return Backend(name, usable=False, reason=reason, fix="install the 64-bit OS")
    if board.machine not in {"aarch64", "arm64", "x86_64"}:
        reason = f"LiteRT has no wheels for {board.machine or 'an unknown processor'}"
        return Backend(name, usable=False, reason=reason, fix="use a 64-bit ARM or x86 device")
    if trial is None:
        return Backend(name, usable=True, reason=_NOT_TRIED)
    if not trial.installed:
        return Backend(name, usable=False, reason="not installed", fix="pip install ai-edge-litert")
    if not trial.tried:
        return _untried(name, trial)
    if trial.error:
        fix = "pip install --force-reinstall ai-edge-litert"
        return Backend(name, usable=False, version=trial.version, reason=trial.error, fix=fix)
    if _is_arm(board) and board.features is None:
        reason, fix = "/proc/cpuinfo is hidden: XNNPACK turns itself off", "no ProcSubset=pid"
        return Backend(name, usable=True, version=trial.version, reason=reason, fix=fix)
    return Backend(name, usable=True, version=trial.version)


def _tflite_runtime(board: Board, trial: Trial | None) -> Backend:
    name = "tflite-runtime"
    if trial is not None and not trial.tried:
        return _untried(name, trial)
    if trial is not None and trial.installed and not trial.error:
        reason = "it never gives INT8 to XNNPACK: many times slower than LiteRT"
        return Backend(
            name, usable=True, version=trial.version, reason=reason, fix="pip install ai-edge-litert"
        )
    reason = _NOT_TRIED if trial is None else trial.error or "not installed"
    fix = "not needed where LiteRT runs"
    if board.userland_bits == 32:
        fix = "pip install tflite-runtime (Python 3.11 or older), slow; better the 64-bit OS"
    return Backend(name, usable=False, reason=reason, fix=fix)


def _tensorrt(board: Board, trial: Trial | None) -> Backend:
    name = "tensorrt"
    version = trial.version if trial and trial.version else board.tensorrt
    jetson = board.kind == "jetson"
    if jetson and board.tier == "unsupported":
        return Backend(name, usable=False, version=version, reason=board.tier_reason)
    if not jetson and (trial is None or not trial.installed):
        reason = "no Jetson" if trial is None else "no Jetson, and TensorRT is not installed"
        return Backend(name, usable=False, reason=reason, fix="not needed without an NVIDIA GPU")
    number = version_of(version)
    if number is not None and number < TENSORRT_NEEDS:
        reason = f"TensorRT 10.3+ needed, this is {version}"
        return Backend(
            name, usable=False, version=version, reason=reason, fix="upgrade to JetPack 6.1 or later"
        )
    if trial is None:
        if number is None:
            return Backend(name, usable=False, reason="its packages are not installed", fix=_APT)
        return Backend(name, usable=True, version=version, reason=_NOT_TRIED)
    if not trial.installed:
        return Backend(name, usable=False, version=version, reason="this Python can't import it", fix=_APT)
    if not trial.tried:
        return _untried(name, trial)
    if trial.error:
        fix = "needs a working NVIDIA driver: on a Jetson, access to /dev/nvhost*, /dev/nvmap (group video)"
        return Backend(name, usable=False, version=version, reason=trial.error, fix=fix)
    return Backend(name, usable=True, version=version, reason=f"GPU with SM {trial.sm}" if trial.sm else "")


def _untried(name: str, trial: Trial) -> Backend:
    return Backend(name, usable=None, reason=f"could not be tried: {trial.error}", fix=_AGAIN)


def _is_arm(board: Board) -> bool:
    return (board.machine or "").startswith(("aarch64", "arm"))
