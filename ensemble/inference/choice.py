"""The backend that `--engine auto` and `--precision auto` stand for: the quickest that answers as PyTorch in float32.

It is measured once for a machine, heads and options, and remembered beside the runs, in engines/choices.json.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from math import comb
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, TypeAdapter, ValidationError
from tqdm import tqdm

from data.runtime.errors import InputError
from data.runtime.files import write_text
from data.runtime.machine import gains_from_bfloat16, processor_name
from ensemble.backends.engines import DEFAULT, ENGINES_FOLDER, PACKAGES, PRECISIONS, EngineBackend
from ensemble.inference.predictor import Task

FILE_NAME = "choices.json"
AUTO = "auto"
MIN_IMAGES = 1024  # fewer are predicted before a measurement would pay
SAMPLE, ROUNDS = 64, 2  # images that backends are measured on, and how often
MAX_LOSS = 0.001  # of macro F1 on validation images, in bfloat16
VALIDATION_IMAGES = 4000  # of each head, or a few more: of 1,000, one other answer can already cost as much
WORTHWHILE = 1.05  # times PyTorch's speed, from which on another engine makes up for loading it


@dataclass(frozen=True)
class HeadScore:
    """Macro F1 of a head on its validation images, and which of them [N] it answers right."""

    macro_f1: float
    right: npt.NDArray[np.bool_]


class BackendChoice(BaseModel, frozen=True, strict=True):
    """A backend and the images a second of all that were measured."""

    engine: str
    precision: str
    images_per_second: dict[str, float]


PredictHeads = Callable[[Sequence[str]], Iterable[Mapping[str, npt.NDArray[np.float32]]]]
_SAVED = TypeAdapter(dict[str, BackendChoice])


def list_candidates(engine: str, precision: str, runs: Path, gpu: bool) -> list[EngineBackend]:
    """List the installed backends that `engine` and `precision` allow, the default first; one unless they say auto.

    Args:
        runs: gets the folder of graphs and compiled models, if it can be written to.
        gpu: whether PyTorch computes on one, which no other engine does.
    """
    folder = runs / ENGINES_FOLDER if os.access(runs, os.W_OK) else None
    engines = [each for each in PACKAGES if each == "torch" or (not gpu and _is_installed(each))]
    allowed = {"fp32", "bf16"} if gpu or gains_from_bfloat16() else {"fp32"}
    return [
        EngineBackend(each, one, folder=folder)
        for each in (engines if engine == AUTO else [engine])
        for one in PRECISIONS[each]
        if one == precision or (precision == AUTO and one in allowed)
    ]


def choose_backend(
    candidates: Sequence[EngineBackend],
    runs: Path,
    key: str,
    images: int,
    measure: Callable[[EngineBackend], Callable[[], object]],
    score: Callable[[EngineBackend], Mapping[str, HeadScore]],
) -> EngineBackend:
    """Return the remembered backend, or measure all; the first one if there are fewer images than `MIN_IMAGES`.

    Args:
        candidates: the first one is in float32.
        key: of all else that the choice depends on.
        images: number to predict now.
        measure: prepares a backend and returns the call to time; InputError if it does not answer as PyTorch.
        score: of each head on its validation images; InputError if these are not there.
    """
    file = runs / ENGINES_FOLDER / FILE_NAME
    try:
        saved = _SAVED.validate_json(file.read_bytes())
    except (OSError, ValidationError):  # a missing or damaged file is written anew
        saved = {}
    by_name = {_name(each): each for each in candidates}
    if key in saved and (found := by_name.get(f"{saved[key].engine} {saved[key].precision}")) is not None:
        return found
    if images < MIN_IMAGES or len(candidates) == 1:
        return candidates[0]
    print(f"engine: measuring {', '.join(by_name)}, once for this machine", file=sys.stderr, flush=True)
    speeds = {name: _images_per_second(each, measure) for name, each in by_name.items()}
    order = sorted((name for name in by_name if speeds[name]), key=lambda name: -_rank(by_name[name], speeds[name]))
    single = [name for name in order if by_name[name].precision == "fp32"]
    if not order:
        problem = f"none of {', '.join(by_name)} answers as PyTorch in float32"
        raise InputError(f"engine: {problem}; use --engine torch --precision fp32")
    # Where only bfloat16 is asked for, there is no float32 to hold it to.
    wanted = (n for n in order if n in single or not single or _loses_little(by_name[n], by_name[single[0]], score))
    chosen = by_name[next(wanted)]
    rates = {name: round(speed, 1) for name, speed in speeds.items()}
    saved[key] = BackendChoice(engine=chosen.engine, precision=chosen.precision, images_per_second=rates)
    try:
        write_text(file, _SAVED.dump_json(saved, indent=2).decode() + "\n")
    except OSError as error:
        print(f"{file}: cannot be written ({error.strerror}): the next run measures again", file=sys.stderr)
    return chosen


def score_heads(tasks: Mapping[str, Task], predict: PredictHeads) -> dict[str, HeadScore]:
    """Score each head, by its folder, on validation images; every image is predicted once, by all heads.

    They are all images of a head's people, or of some of them where they have more than `VALIDATION_IMAGES`.

    Args:
        predict: predicts files, a batch at a time: probabilities [F, B, C] by task.

    Raises:
        InputError: a validation.npz or an image is not there.
    """
    from data.audit.validation import read_validation
    from ensemble.backends.int8_images import select_people
    from heads.objective.metrics import macro_f1

    own, truth = {}, {}
    for name, task in tasks.items():
        for fold, head in enumerate(task.heads):
            held_out = read_validation(head.run.validation)
            rows = select_people(held_out["person"].astype(str).tolist(), VALIDATION_IMAGES)
            own[name, fold], truth[name, fold] = held_out["path"][rows].astype(str).tolist(), held_out["truth"][rows]
    paths = list(dict.fromkeys(chain.from_iterable(own.values())))
    parts = list(tqdm(predict(paths), "engine: checking", disable=None, unit="batch"))
    places, scores = {path: place for place, path in enumerate(paths)}, {}
    for (name, fold), names in own.items():
        probabilities = np.concatenate([part[name][fold] for part in parts])[[places[path] for path in names]]
        found, classes = probabilities.argmax(axis=1), probabilities.shape[1]
        score = HeadScore(macro_f1(truth[name, fold], found, classes), found == truth[name, fold])
        scores[str(tasks[name].heads[fold].run.folder)] = score
    return scores


def describe_machine() -> list[str]:
    """Describe what the speed of the engines depends on: processor and versions of the packages."""
    versions = [f"{each} {_version(PACKAGES[each])}" for each in PACKAGES if _is_installed(each)]
    return [processor_name(), os.environ.get("OMP_NUM_THREADS", ""), *versions]


def _name(backend: EngineBackend) -> str:
    return f"{backend.engine} {backend.precision}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed by another name, as onnxruntime-gpu is
        return "of an unknown version"


def _is_installed(engine: str) -> bool:
    try:
        return find_spec(PACKAGES[engine]) is not None
    except ValueError:  # a module without a specification
        return False


def _images_per_second(backend: EngineBackend, measure: Callable[[EngineBackend], Callable[[], object]]) -> float:
    """The quickest of `ROUNDS`; 0 for a backend that cannot be used, which is printed."""
    try:
        call = measure(backend)
        call()  # compiles, and compares with PyTorch
        times = []
        for _ in range(ROUNDS):
            start = perf_counter()
            call()
            times.append(perf_counter() - start)
    except InputError as error:
        if backend == DEFAULT:
            raise
        print(f"engine: {error}", file=sys.stderr)
        return 0.0
    return SAMPLE / min(times)


def _rank(backend: EngineBackend, speed: float) -> float:
    return speed if backend.engine == "torch" else speed / WORTHWHILE


def _loses_little(
    backend: EngineBackend, single: EngineBackend, score: Callable[[EngineBackend], Mapping[str, HeadScore]]
) -> bool:
    """Whether bfloat16 makes no head worse on its validation images; printed if it does.

    Worse is a macro F1 that is lower by more than `MAX_LOSS`, unless the answers that changed explain it by chance: of
    a few thousand images, a handful change, and two of these can cost as much.
    """
    try:
        before, after = score(single), score(backend)
    except InputError as error:
        print(f"engine: bfloat16 is not used, since it cannot be checked: {error}", file=sys.stderr)
        return False
    losses = [
        f"{name} {before[name].macro_f1:.4f} to {after[name].macro_f1:.4f}"
        for name in before
        if before[name].macro_f1 - after[name].macro_f1 > MAX_LOSS and _is_worse(before[name].right, after[name].right)
    ]
    if losses:
        print(f"engine: {_name(backend)} is not used: macro F1 falls from {', '.join(losses)}", file=sys.stderr)
    return not losses


def _is_worse(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> bool:
    """Whether the answers that changed became wrong rather than right, by a one-sided sign test at 5 %.

    McNemar 1947, doi:10.1007/BF02295996, with the binomial distribution itself.

    >>> right = np.ones(9, dtype=bool)
    >>> [_is_worse(right, np.arange(9) >= lost) for lost in (4, 5)]
    [False, True]
    """
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    changed = lost + won
    return 20 * sum(comb(changed, more) for more in range(lost, changed + 1)) < 1 << changed
