"""An installation of a model as the command line tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import make_console

if TYPE_CHECKING:
    from agent.config import Config
    from agent.modelstore import ModelStore
    from agent.modelstore.install import Installed, Options, Progress
    from agent.modelstore.trial import TrialResult


def install_and_tell(store: ModelStore, source: str, options: Options, *, as_json: bool, unused: str) -> None:
    """Install, tell how it goes, have the agent take it on. Raises AgentError."""
    from agent.errors import AgentError, BadData
    from agent.modelstore.install import install as do
    from agent.modelstore.telling import tell_agent

    try:
        if as_json:
            done = do(store, source, options, _print_line)
        else:
            with make_console(stderr=True).status("") as shown:
                done = do(store, source, options, lambda progress: shown.update(_words(progress)))
        note = f"not in use: {unused}" if unused else ""
        if done.changed and not unused:
            note = tell_agent(store.folder.parent)
            if why := store.read().why(done.sha):
                raise BadData(f"{done.name} {done.version} failed at work", seen=why)
    except AgentError as fault:
        if as_json:
            _print_line({"error": str(fault), "exit_code": fault.exit_code})
        raise
    state = store.read().standing
    if as_json:
        _print_line({**_document(done), "state": state, "in_use": not unused, "note": note})
    else:
        click.echo(
            f"{done.name} {done.version} ({done.sha[:12]}): {_outcome(done, state)}; {note}".rstrip("; ")
        )


def _outcome(done: Installed, state: str) -> str:
    """Return what came of an installation; `state` is how the model stands now."""
    if not done.changed:
        return f"it is here already ({state})"
    return f"installed ({state}), {told(done.trial)}" if done.trial else f"installed ({state})"


def told(result: TrialResult) -> str:
    """Return how a trial went."""
    figures = result.figures
    if figures is None:
        return result.why or "its engine is built and works"
    return (
        f"runs on {figures.backend}, p50 {figures.p50_ms:.1f} ms, p95 {figures.p95_ms:.1f} ms of"
        f" {figures.limit_ms:.0f} ms, {figures.rss_bytes / 1e6:.0f} MB"
    )


def _words(progress: Progress) -> str:
    """Return how far an installation is."""
    if progress.bytes is None:
        return progress.step
    of = f" of {progress.of_bytes / 1e6:.1f}" if progress.of_bytes else ""
    return f"{progress.step}: {progress.bytes / 1e6:.1f}{of} MB"


def unused_by(config: Config | None) -> str:
    """Return why no camera runs the store's model, "" where one does or nobody knows."""
    if config is None:
        return ""
    if config.model is not None:
        return f"the configuration says model = {config.model}"
    own = all(camera.model is not None for camera in config.camera)
    return "every camera has a model of its own" if own else ""


def _document(value: object) -> dict[str, Any]:
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(value)
    return document


def _print_line(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.encode(value).decode())
