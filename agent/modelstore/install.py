"""A model installed: fetched, checked, tried, and put in the place of the one that runs. Every step may be the last."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.bundle import NOBODY, Trust, load_bundle
from agent.bundle.files import digest_of
from agent.bundle.unzip import unpacked_bytes, unzip
from agent.errors import AgentError, BadData, InputMissing, UsageError
from agent.hardware import default_threads
from agent.modelstore.collecting import QUOTA_BYTES, alone, clear_leftovers, collect
from agent.modelstore.download import MOST_BYTES, Download
from agent.modelstore.enginetrial import needs_engine, try_engine
from agent.modelstore.room import check_room
from agent.modelstore.state import Candidate, Standing, admit, moved
from agent.modelstore.store import DOWNLOADS, writing
from agent.modelstore.trial import Limits, TrialResult, runtime, try_in_child
from agent.modelstore.versions import identify, listed
from agent.modelstore.web import is_url
from agent.starter import starter_bundle
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.bundle import Bundle
    from agent.modelstore.store import ModelStore


log = logging.getLogger(__name__)


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an installation is: the step, and of a download how many bytes."""

    step: str
    bytes: int | None = None
    of_bytes: int | None = None


class Installed(msgspec.Struct, frozen=True):
    """What came of it: the model, whether it was `changed` for it, how it stands, and its trial."""

    sha: str
    name: str
    version: int
    changed: bool
    state: Standing
    trial: TrialResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to install. `sha256` (needed for URLs) is that of the zip, `version` what the manifest has to say.

    `again` tries a model in quarantine once more. `threads` None: as many as the agent takes by itself.
    `quota_bytes` is for all models; those that run now or after a rollback always stay.
    """

    trust: Trust = NOBODY
    sha256: str | None = None
    version: int | None = None
    again: bool = False
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    most_bytes: int = MOST_BYTES
    quota_bytes: int = QUOTA_BYTES


def install(
    store: ModelStore, source: str, options: Options, tell: Callable[[Progress], None] = lambda _: None
) -> Installed:
    """Install the bundle `source`: a directory, a .zip of one, or the http(s) URL of a zip.

    From a URL a signature by a trusted key is needed, whatever `options.trust` says of local ones.
    Raises UsageError, InputMissing, ServiceAway, BadData (nothing has changed then but for the quarantine),
    CannotCreate, IOFault, TryAgain, NotPermitted.
    """
    trust = replace(options.trust, required=True) if is_url(source) else options.trust
    with writing(store.folder), alone(store.folder), store.versions.draft() as draft:
        _fetch(store, source, options, draft, tell)
        tell(Progress("verify"))
        model = _verified(draft, trust, redact(source))
        _check_version(model, options)
        if options.again and store.read().why(model.sha):
            store.trials.forget(model.sha)
            store.pardon(model.sha)
        state = moved(store.read(), runtime())
        admit(state, model)
        if model.sha == state.current:
            return Installed(model.sha, model.name, model.version, False, state.standing)
        store.versions.place(draft, model, redact(source))
        tell(Progress("trial"))
        trial = _tried(store, model, options)
        tell(Progress("swap"))
        after = store.put(model)
        _tidy(store, options.quota_bytes)
    return Installed(model.sha, model.name, model.version, True, after.standing, trial)


def try_bundle(bundle: Path, sha: str, store: ModelStore, options: Options) -> TrialResult:
    """Try a checked bundle beside the model that runs, or ran before it, and the factory's. Raises AgentError."""
    if needs_engine(loaded := load_bundle(bundle)):
        return try_engine(loaded, sha, store.folder.parent)
    state = store.read()
    known = next((each for each in (state.current, state.previous) if each not in (None, sha)), None)
    rivals = [*((store.versions.path(known),) if known else ()), starter_bundle()]
    threads = options.threads or default_threads()
    return try_in_child(bundle, sha, rivals, threads=threads, limits=options.limits)


def _tried(store: ModelStore, model: Candidate, options: Options) -> TrialResult:
    """Return the good trial of a model that has its place in the store, one that was kept if there is one.

    Raises BadData for a model that fails; it is then in quarantine.
    """
    trial, most_ms = store.trials.kept(model.sha), options.limits.max_ms
    if trial is None or (trial.figures and most_ms and trial.figures.p95_ms > most_ms):
        trial = try_bundle(store.versions.path(model.sha), model.sha, store, options)
        store.trials.keep(trial)
    if not trial.passed:
        store.fail(model.sha, trial.why)
        fix = "it is in quarantine: install another version; --again tries this one once more"
        raise BadData(f"{model.name} {model.version} failed its trial", seen=trial.why, fix=fix)
    return trial


def _tidy(store: ModelStore, quota_bytes: int) -> None:
    """Remove what the store need not keep. The model is installed: what can't be removed is told, and stays."""
    try:
        collect(store, quota_bytes)
        clear_leftovers(store)
    except (OSError, AgentError) as fault:
        log.warning("old models in %s can't be removed: %s", store.folder, fault)


def _fetch(
    store: ModelStore, source: str, options: Options, draft: Path, tell: Callable[[Progress], None]
) -> None:
    """Put the files of the bundle `source` into `draft`."""
    if is_url(source):
        if options.sha256 is None:
            raise UsageError("a URL needs --sha256", seen=redact(source), fix="give that of the zip")
        download = Download(store.folder / DOWNLOADS, options.sha256, options.most_bytes)
        archive = download.fetch(source, lambda done, whole: tell(Progress("download", done, whole)))
        try:
            _unpack(archive, draft, tell)
        finally:
            download.forget()
        return
    path = Path(source)
    if not source or not path.exists():  # "" would be the current directory
        fix = "give a bundle directory, a .zip of one, or a URL"
        raise InputMissing("model not found", seen=source or "nothing", fix=fix)
    if path.is_dir():
        if options.sha256 is not None:
            raise UsageError("--sha256 is that of a .zip", seen=path, fix="leave it out")
        tell(Progress("copy"))
        _copy(load_bundle(path, options.trust), draft)
        return
    if options.sha256 is not None and (digest := digest_of(path)) != options.sha256.lower():
        fix = f"it should be {options.sha256[:12]}...: another file, or damaged"
        raise BadData(f"{path}: wrong sha256", seen=f"{digest[:12]}...", fix=fix)
    _unpack(path, draft, tell)


def _unpack(archive: Path, draft: Path, tell: Callable[[Progress], None]) -> None:
    tell(Progress("unpack"))
    check_room(draft, unpacked_bytes(archive))
    unzip(archive, draft)


def _copy(bundle: Bundle, draft: Path) -> None:
    names = listed(bundle)
    check_room(draft, sum((bundle.path / name).stat().st_size for name in names))
    for name in names:
        shutil.copyfile(bundle.path / name, draft / name)


def _verified(draft: Path, trust: Trust, source: str) -> Candidate:
    """Return what is in `draft`: signature, hashes and contents are good. Raises AgentError that names `source`."""
    try:
        bundle = load_bundle(draft, trust)
        bundle.golden()
    except AgentError as fault:
        what = fault.what.replace(str(draft), source)
        seen = source if fault.seen == draft else fault.seen
        raise type(fault)(what, seen=seen, fix=fault.fix) from None
    return identify(bundle)


def _check_version(model: Candidate, options: Options) -> None:
    if options.version is not None and model.version != options.version:
        fix = f"version {options.version} was asked for: give the file that holds it"
        raise BadData(f"{model.name}: version", seen=model.version, fix=fix)
