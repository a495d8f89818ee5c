"""A recipe: which heads learn from which data, with which settings and in which order, in one YAML."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Annotated, Any

from pydantic import Field

from data.runtime.errors import InputError, did_you_mean, raise_all
from data.runtime.files import hold_lock
from heads.build import load_task_config
from heads.config.loader import Location, Section, check_config, read_yaml
from heads.config.steps import replace_steps
from heads.config.task import FREE_KEYS
from heads.run.folder import file_checksum, find_source_run, run_folder
from heads.run.jobs import Job, plan_jobs, run_side_by_side
from heads.run.stamp import Stamp, table_checksum
from heads.train.teacher import find_teacher_heads

STAMPS = ".recipe"  # folder in the folder of all runs
Sources = Annotated[list[str], Field(min_length=1)]


class Masked(Section):
    """Faces with drawn masks, which `python -m data.masked` writes to `out` before any training."""

    data: Sources
    out: str
    per_face: Annotated[int, Field(ge=1)]
    wrong: Annotated[float, Field(ge=0, le=1)]


class Embeddings(Section):
    """Embeddings of faces, which `python -m data.embeddings` writes to `out`, an .npz file, before any training."""

    data: Sources
    out: str
    where: str | None = None


class RecipeHead(Section):
    """One head: its data, `--set` for it alone, and heads that are trained before, though it does not use them.

    `steps` replaces steps of its YAML's `pixels` where they stand (`heads.config.steps`).
    """

    data: Sources
    set: list[str] = Field(default_factory=list)
    steps: dict[str, Any] = Field(default_factory=dict)
    after: list[str] = Field(default_factory=list)


class Recipe(Section):
    """All heads by name; `set` is for each of them, and `folds` as `--fold`."""

    heads: Annotated[dict[str, RecipeHead], Field(min_length=1)]
    set: list[str] = Field(default_factory=list)
    folds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    masked: Masked | None = None
    embeddings: Embeddings | None = None


def load_recipe(path: Path, values: Mapping[str, str]) -> Recipe:
    """Read a recipe's YAML with `$NAME` and `${NAME}` in its texts replaced by `values`.

    Raises:
        InputError: every unknown key or name, wrong type and missing value, with file and line.
    """
    raw, lines = read_yaml(path)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: found a {type(raw).__name__}, expected keys with values")
    places = {location: f"{path}:{line}" for location, line in lines.items()}
    problems: list[str] = []
    filled = _fill(raw, values, (), places, problems)
    raise_all(f"{path}: values are missing", problems)
    recipe = check_config(Recipe, filled, str(path), places)
    raise_all(
        f"{path}: unknown heads",
        [
            f"{places['heads', name, 'after', index]}: heads.{name}.after: found {other!r}, expected another head"
            f"{did_you_mean(other, recipe.heads)}"
            for name, head in recipe.heads.items()
            for index, other in enumerate(head.after)
            if other not in recipe.heads or other == name
        ],
    )
    return recipe


def _fill(
    value: Any, values: Mapping[str, str], location: Location, places: Mapping[Location, str], problems: list[str]
) -> Any:
    """Replace the placeholders in all texts of nested `value`; add to `problems` those without a value."""
    if isinstance(value, dict):
        return {key: _fill(each, values, (*location, key), places, problems) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, values, (*location, index), places, problems) for index, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return Template(value).substitute(values)
    except KeyError as error:
        name = error.args[0]
        problems.append(f"{places[location]}: {value}: {name} is not set; write {name}=... before the command")
    except ValueError:
        problems.append(f"{places[location]}: {value}: expected $NAME or ${{NAME}} after $, or $$ for a dollar sign")
    return value


def run_recipe(args: Namespace, command: Sequence[str], arguments: Sequence[str]) -> int:
    """Train the heads of `args.recipe` that are not done yet; return the exit code.

    Args:
        args: parsed options of train_task.py.
        command: runs train_task.py.
        arguments: its command line.
    """
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--recipe")
    options = parser.parse_known_args(arguments)[1]
    values = {name: value for name, value in os.environ.items() if value}
    recipe = load_recipe(args.recipe, {**values, "RUNS": str(args.runs)})
    with hold_lock(args.runs / f"{STAMPS}.lock", str(args.runs)):
        return run_side_by_side(plan_recipe(recipe, args, command, options))


def plan_recipe(recipe: Recipe, args: Namespace, command: Sequence[str], options: Sequence[str]) -> list[Job]:
    """Make the jobs of a recipe, each with its stamp in RUNS/.recipe/.

    Args:
        args: parsed options of train_task.py.
        command: runs train_task.py.
        options: for every head, in the form of the command line; they override the recipe's.

    Raises:
        InputError: RUNS holds folds that the recipe does not train, which `combine.py` would merge with its own.
    """
    folds: list[int | None] = [*(args.fold or recipe.folds)] or [None]
    raise_all(
        f"{args.runs}: found folds beside those of this recipe; move them away or name another --runs",
        [str(found) for task in recipe.heads for found in _other_folds(args.runs / task, folds)],
    )
    own = {
        task: [*texts, *_changed_steps(task, head.steps, args.config, texts)]
        for task, head in recipe.heads.items()
        for texts in [[*recipe.set, *head.set]]
    }
    settings = {task: [*texts, *args.set] for task, texts in own.items()}
    weights, teachers = find_sources(settings, args.config)
    jobs = list(_data_jobs(recipe, args.runs, args.on_bad_image))
    before = {job.name for job in jobs}
    for job in plan_jobs([], list(recipe.heads), folds, weights, teachers):
        task, slash, fold = job.name.partition("/")
        head = recipe.heads[task]
        changes = [*(f"--data={source}" for source in head.data), *(f"--set={text}" for text in own[task])]
        after = {f"{other}{slash}{fold}" for other in head.after}
        jobs.append(
            replace(
                job,
                command=[*command, *changes, *options, *job.command],
                after=job.after | after | before,
                stamp=_head_stamp(args, task, fold, settings[task], head.data),
            )
        )
    return jobs


def find_sources(
    settings: Mapping[str, Sequence[str]], config: Path | None
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Find `backbone.weights` and `teacher.runs` of each task, given its settings of the command line."""
    weights, teachers = {}, {}
    for task, changes in settings.items():
        with suppress(InputError):  # the job of a head whose YAML is wrong reports it
            loaded = load_task_config(task, config, changes)
            weights[task] = loaded.backbone.weights
            teachers[task] = [] if loaded.teacher is None else loaded.teacher.runs
    return weights, teachers


def _other_folds(folder: Path, folds: Sequence[int | None]) -> Iterator[Path]:
    expected = {f"fold-{fold}" for fold in folds}
    return (found for found in sorted(folder.glob("fold-*")) if found.name not in expected)


def _changed_steps(task: str, steps: Mapping[str, Any], config: Path | None, settings: Sequence[str]) -> list[str]:
    """Write the changed steps of a head as settings of the command line, which come after its others."""
    if not steps:
        return []
    changed = replace_steps(load_task_config(task, config, settings).pixels, steps, f"heads.{task}.steps")
    return [f"{key}={json.dumps(pipeline)}" for key, pipeline in changed.items()]  # JSON is YAML on one line


def _data_jobs(recipe: Recipe, runs: Path, on_bad_image: str) -> Iterator[Job]:
    """Make the jobs that write data before any training, named after their modules: no head's name has a dot."""
    if (masked := recipe.masked) is not None:
        shares = {"per_face": masked.per_face, "wrong": masked.wrong}
        yield _data_job("data.masked", masked, Path(masked.out, "labels.csv"), shares, runs, on_bad_image)
    if (embeddings := recipe.embeddings) is not None:
        where, file = {"where": embeddings.where}, Path(embeddings.out)
        yield _data_job("data.embeddings", embeddings, file, where, runs, on_bad_image, absolute=True)


def _data_job(
    module: str,
    section: Masked | Embeddings,
    result: Path,
    options: Mapping[str, Any],
    runs: Path,
    on_bad_image: str,
    absolute: bool = False,
) -> Job:
    """Make a job of a module of `data`, done again when its options or data change, or `absolute` paths of these."""
    sources = list(map(Path, section.data))
    places = {"folders": [str(source.resolve()) for source in sources]} if absolute else {}
    command = [sys.executable, "-m", module, "--out", section.out, *(f"--data={source}" for source in sources)]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    stamp = Stamp(
        runs / STAMPS / f"{module}.json", result, lambda: {**options, **places, "data": table_checksum(sources)}
    )
    root = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    command.append(f"--on-bad-image={on_bad_image}")
    return Job(module, command, environment={"PYTHONPATH": root}, stamp=stamp)


def _head_stamp(args: Namespace, task: str, fold: str, settings: Sequence[str], sources: Sequence[str]) -> Stamp:
    number = int(fold.removeprefix("fold-")) if fold else None
    run = run_folder(args.runs, task, number)

    def read_inputs() -> dict[str, Any]:
        config = load_task_config(task, args.config, settings)
        source = find_source_run(config.backbone.weights, args.runs, number)
        values = config.model_dump()
        for key in FREE_KEYS:
            del values["training"][key]
        weights = values["backbone"].pop("weights")
        if (teacher := config.teacher) is not None:
            heads = [file_checksum(file) for file in find_teacher_heads(teacher.runs, args.runs)]
            values["teacher"] |= {"runs": heads, "file": _content(teacher.file)}
        return {
            **values,
            "backbone.weights": _content(weights if source is None else source.best),
            "corrections": _content(config.corrections),
            "data": table_checksum(list(map(Path, sources))),
            "boxes": [_content(args.boxes), args.box_margin],
            "cache": args.cache is not None,
            "on_bad_image": args.on_bad_image,
        }

    stamp = args.runs / STAMPS / task / f"{fold or 'run'}.json"
    return Stamp(stamp, run.best, read_inputs, (run.last, run.interrupted), ["--resume"])


def _content(file: str | Path | None) -> str | None:
    """Return a file's checksum, wherever it lies, or the name of what is no file."""
    if file is None:
        return None
    return file_checksum(Path(file)) if Path(file).is_file() else str(file)
