"""A run's unfinished state: written after an epoch or in the middle of one, and gone on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError, refuse
from heads.checkpoint import load_state, load_tensors, save_state
from heads.config import TaskConfig
from heads.learner import Learner
from heads.progress import Progress
from heads.run import RunFolder

# What may differ when a run goes on: it changes how fast a run is, not what comes out of it.
FREE_KEYS = ("training.workers",)


def place(learner: Learner, run: RunFolder) -> str:
    """Where a run stands, for the user."""
    steps = learner.progress.steps
    within = f" and {steps} of {learner.steps_per_epoch} steps" if steps else ""
    return f"epoch {len(learner.history)}{within} of {run.folder}"


def keep(path: Path, learner: Learner, config: TaskConfig) -> None:
    """Write all that `go_on` needs to one file."""
    description = {
        "history": learner.history,
        "progress": vars(learner.progress),
        "steps_per_epoch": learner.steps_per_epoch,
        "config": config.model_dump(),
    }
    save_state(path, learner.modules, learner.optimiser, learner.schedule, description)


def go_on(run: RunFolder, learner: Learner, config: TaskConfig) -> bool:
    """Put the run's state into `learner`, in place; returns whether there was one.

    Raises:
        InputError: it began under another config or with other data, or its file is damaged.
    """
    # Where both are there, the interrupted state is the later one, or within the epoch that is done again.
    path = run.interrupted if run.interrupted.is_file() else run.last
    if not path.is_file():
        return False
    _refuse_other_config(path, run, config)
    try:
        description = load_state(path, learner.modules, learner.optimiser, learner.schedule)
        learner.history[:] = [dict(record) for record in description["history"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: no unfinished run ({error}); start it without --resume") from None
    if description.get("steps_per_epoch") != learner.steps_per_epoch:
        raise InputError(
            f"{run.folder}: began with {description.get('steps_per_epoch')} steps an epoch, found "
            f"{learner.steps_per_epoch}; give the same --data as before, or start without --resume"
        )
    learner.progress = Progress.from_json(description.get("progress", vars(Progress())))
    return True


def _refuse_other_config(path: Path, run: RunFolder, config: TaskConfig) -> None:
    _, plain = load_tensors(path)
    try:
        before = _flat(plain["description"]["config"])
    except (KeyError, TypeError):
        raise InputError(f"{path}: holds no unfinished run; start it without --resume") from None
    now = _flat(config.model_dump())
    refuse(
        f"{run.folder}: began under another config; repeat its settings, or start without --resume",
        [
            f"{key}: found {now.get(key)!r}, expected {before.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in FREE_KEYS
        ],
    )


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots.

    >>> _flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
