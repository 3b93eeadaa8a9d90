"""A change of the model store, killed at every call that changes the disk, one call after the other.

    python -m tests.e2e.modelkills OPERATION FOLDER

Each attempt is a process of its own, forked here: it works on a copy of a prepared store and ends itself by SIGKILL
before call number k, for every k until there is none. Then two more processes tell what begins, and install another
model. The trials are not part of this: they give what they are told to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.bundle import load_bundle
from agent.errors import BadData
from agent.modelstore import ModelStore
from agent.modelstore import install as installing
from agent.modelstore.collecting import alone, clear_leftovers, collect
from agent.modelstore.install import Options, install
from agent.modelstore.trial import TrialResult, runtime
from tests.broken_models import make_bundle, sha_of, zip_of

_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.copyfile"}
"""Audit events of what changes the disk; "open" does where it is for writing, fsync has none."""
_WRITING = os.O_WRONLY | os.O_RDWR
Operation = Callable[[ModelStore, Path], object]


def _trial(passes: bool) -> Callable[..., TrialResult]:
    def tried(_: Path, sha: str, *__: object, **___: object) -> TrialResult:
        return TrialResult(
            sha, runtime(), "2026-01-02T03:04:05.000Z", 0.1, None, "" if passes else "it is bad"
        )

    return tried


def _install(name: str, *, passes: bool = True) -> Operation:
    def do(store: ModelStore, bundles: Path) -> object:
        installing.try_in_child = _trial(passes)  # type: ignore[assignment]
        try:
            return install(store, str(bundles / name), Options())
        except BadData:
            if passes:
                raise
            return None

    return do


def _collect(store: ModelStore, _: Path) -> None:
    with alone(store.folder):
        clear_leftovers(store)
        collect(store, 0)


def _current(store: ModelStore) -> str:
    current = store.read().current
    assert current is not None
    return current


def _commit(store: ModelStore, _: Path) -> None:
    store.commit(_current(store))


OPERATIONS: dict[str, tuple[list[Operation], Operation]] = {
    "install, the first": ([], _install("one")),
    "install, another": ([_install("one"), _commit], _install("two")),
    "install of a .zip": ([_install("one"), _commit], _install("two.zip")),
    "install over a pending one": ([_install("one"), _commit, _install("two")], _install("three")),
    "install that fails its trial": ([_install("one"), _commit], _install("two", passes=False)),
    "install of what was damaged": (
        [
            _install("one"),
            lambda store, _: store.versions.path(_current(store)).joinpath("labels.txt").unlink(),
            lambda store, _: store.rollback("test"),
        ],
        _install("one"),
    ),
    "begin": ([_install("one"), _commit, _install("two")], lambda store, _: store.begin()),
    "begin, the fourth": (
        [_install("one"), _commit, _install("two"), *[lambda store, _: store.begin()] * 3],
        lambda store, _: store.begin(),
    ),
    "commit": ([_install("one"), _commit, _install("two")], _commit),
    "fail": (
        [_install("one"), _commit, _install("two")],
        lambda store, _: store.fail(_current(store), "bad"),
    ),
    "rollback": ([_install("one"), _commit, _install("two")], lambda store, _: store.rollback("by hand")),
    "gc": (
        [_install("one"), _commit, _install("two"), _commit, _install("three"), _commit],
        _collect,
    ),
}
"""What goes before, and what is killed."""


def main() -> None:
    """Print what came of the kills in one operation as a JSON document."""
    before, operation = OPERATIONS[sys.argv[1]]
    root = Path(sys.argv[2])
    bundles, template, work = root / "bundles", root / "template", root / "work"
    names = "one", "two", "three", "last"
    for number, name in enumerate(names, 1):
        zip_of(make_bundle(bundles / name, version=number), bundles / f"{name}.zip")
    known = {sha_of(bundles / name): name for name in names}
    template.mkdir()
    for step in before:
        step(ModelStore(template), bundles)
    began: Counter[str] = Counter()
    points, problems, killed = 0, [], True
    while killed:
        shutil.copytree(template, work)
        killed = _killed_at(points, lambda: operation(ModelStore(work), bundles))
        try:
            began[_in_child(lambda: _begins(work, known))] += 1
            _in_child(lambda: _goes_on(work, bundles))
        except RuntimeError as fault:
            problems.append(f"at call {points}: {fault}")
        shutil.rmtree(work)
        points += killed
    print(json.dumps({"points": points, "began": began, "problems": problems}))


def _begins(work: Path, known: dict[str, str]) -> str:
    """Return which model a start takes after the kill; that it is whole is checked."""
    path = ModelStore(work).begin()
    if path is None:
        return "factory"
    load_bundle(path).golden()
    return known[path.name]


def _goes_on(work: Path, bundles: Path) -> str:
    """Install one more, as if nothing had been."""
    done: Any = _install("last")(ModelStore(work), bundles)
    assert done.changed
    assert ModelStore(work).bundle() == work / "versions" / done.sha
    load_bundle(work / "versions" / done.sha)
    assert not list((work / "versions").glob("*.part"))
    return "done"


def _killed_at(point: int, do: Callable[[], object]) -> bool:
    """Have a process `do` it and kill itself before its change number `point`; tell whether it came to that."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _kill_before(point)
            do()
            code = 0
        except BaseException:  # noqa: BLE001 - the end of a fork
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise SystemExit(f"it failed by itself: {status}")
    return False


def _kill_before(point: int) -> None:
    """Have this process end before its change number `point`; a file that it would write over is torn then."""
    left = point

    def change(torn: object = None) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            if torn is not None:
                with contextlib.suppress(OSError):
                    os.truncate(str(torn), 1)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            change()
        elif event == "open" and _changes(str(args[0]), args[2]):
            change(args[0] if args[2] & os.O_TRUNC else None)

    sync = os.fsync

    def fsync(handle: int) -> None:
        change()
        sync(handle)

    os.fsync = fsync
    sys.addaudithook(hook)


def _changes(path: str, flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & _WRITING) and not path.endswith("lock")


def _in_child(do: Callable[[], str]) -> str:
    """Return what `do` returns in a process of its own. Raises RuntimeError for what goes wrong there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, b"=" + do().encode())
        except BaseException:  # noqa: BLE001 - the end of a fork
            os.write(writer, traceback.format_exc()[-2000:].encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(pid, 0)
    if not said.startswith("="):
        raise RuntimeError(said)
    return said[1:]


if __name__ == "__main__":
    main()
