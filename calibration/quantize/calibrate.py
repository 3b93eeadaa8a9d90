"""The calibration pass: the float network over every picture, once, all its tensors looked at."""

from __future__ import annotations

import hashlib
import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import BadData
from calibration.quantize.network import read_network
from calibration.quantize.statistics import Histogram, Statistics, dump, histogram_of, merged, parse
from calibration.quantize.store import read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from calibration.quantize.network import Network

_KEEP_EVERY = 20
"""Pictures after which an unfinished pass is written down."""


def calibrate(
    float_tflite: Path,
    inputs: Iterable[NDArray[np.float32]],
    work: Path,
    *,
    key: str,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Return the statistics of `float_tflite` over `inputs`, real-valued, each (1, H, W, 3).

    They are kept in `work`; a second call with the same network and the same `key`, which stands for the
    pictures, reads them instead, or goes on where the first was ended. `progress` is told how many inputs are
    done. Raises BadData, CannotCreate.
    """
    digest = hashlib.sha256(float_tflite.read_bytes() + key.encode()).hexdigest()
    file, unfinished = (work / f"{digest[:24]}.{kind}.npz" for kind in ("histograms", "begun"))
    known = read_arrays(file)
    if known is not None:
        return parse(known)
    kept = read_arrays(unfinished)
    begun = statistics = Statistics(0, {}) if kept is None else parse(kept)
    for statistics in gather(float_tflite, inputs, begun, threads=threads):
        if statistics.pictures % _KEEP_EVERY == 0:
            write_arrays(unfinished, dump(statistics))
        if progress is not None:
            progress(statistics.pictures)
    if not statistics.pictures:
        raise BadData("pictures to calibrate on", seen="none", fix="give clips that can be decoded")
    write_arrays(file, dump(statistics))
    unfinished.unlink(missing_ok=True)
    return statistics


def gather(
    float_tflite: Path, inputs: Iterable[NDArray[np.float32]], begun: Statistics, *, threads: int = 1
) -> Iterator[Statistics]:
    """Run `float_tflite` on `inputs`, less those that are in `begun`; yield the statistics after each.

    Raises BadData when the network can't be run, or makes what is no number.
    """
    network = read_network(float_tflite)
    interpreter = open_whole(float_tflite, threads)
    feed = interpreter.get_input_details()[0]["index"]
    statistics = begun
    for values in islice(inputs, begun.pictures, None):
        interpreter.set_tensor(feed, values)
        interpreter.invoke()
        fresh = _seen(network, interpreter)
        known = statistics.tensors
        statistics = Statistics(
            statistics.pictures + 1,
            {name: merged(known[name], one) if name in known else one for name, one in fresh.items()},
        )
        yield statistics


def _seen(network: Network, interpreter: Any) -> dict[str, Histogram]:
    found = {}
    for number in network.activations:
        name = network.tensors[number].name
        values = interpreter.get_tensor(number)
        if not np.isfinite(values.sum(dtype=np.float64)):
            fix = "the float model is broken, or the manifest's mean and std are not the model's"
            raise BadData(f"tensor {name} of the float model", seen="NaN or infinity", fix=fix)
        found[name] = histogram_of(values)
    return found


def open_whole(file: Path, threads: int) -> Any:
    """Open `file` so that every tensor can be read afterwards: no XNNPACK, no memory shared. Raises BadData."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            interpreter = Interpreter(
                model_path=str(file),
                num_threads=threads,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        fix = "convert the model again, with operators that LiteRT has"
        raise BadData(f"{file.name} can't be loaded", seen=error, fix=fix) from None
    return interpreter
