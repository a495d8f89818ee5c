"""A plan of ablations: default heads, levers against them, and the runs to train."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.runtime.errors import raise_all
from heads.config.loader import Section, load_config
from heads.config.steps import replace_steps
from heads.config.task import TaskConfig
from heads.run.folder import RunFolder, run_folder

DEFAULT = "default"


class Base(Section):
    """The default of a head: its YAML (configs/HEAD.yaml if null), names of data folders, settings.

    `held_out` names a data folder that no run trains on, such as a source that is left out, and all are scored on.
    """

    config: str | None = None
    data: list[str]
    set: dict[str, Any] = Field(default_factory=dict)
    held_out: str | None = None


class Lever(Section):
    """One change against the default of a head: a row of the table, with `group` as its description.

    `data` replaces the default's, `set` is laid over it. `steps` changes steps of the head's `pixels` in place:
    new arguments by name, a list replaces the step by others, null removes it. A lever with `product`
    multiplies the head's probabilities by those of the task heads. One with `removed` used an option that
    exists no longer: its row comes from the CSV of figures. Neither of these two is trained.
    """

    name: str
    head: str
    group: str
    data: list[str] | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    steps: dict[str, Any] = Field(default_factory=dict)
    product: bool = False
    removed: bool = False


class Ablations(Section):
    """A plan: title and note of its table, seeds, default heads and levers."""

    title: str
    note: str
    seeds: Annotated[list[int], Field(min_length=1)]
    heads: dict[str, Base]
    levers: list[Lever]


@dataclass(frozen=True)
class Run:
    """A lever (or the default) of one head with one seed."""

    lever: str
    head: str
    seed: int
    config: Path
    data: Sequence[str]
    settings: Mapping[str, Any]

    def runs(self, root: Path) -> Path:
        """The folder for `train_task.py --runs`."""
        return root / _folder_name(self.lever) / f"seed-{self.seed}"

    def folder(self, root: Path) -> RunFolder:
        """The run folder, in which metrics.json is written last."""
        return run_folder(self.runs(root), self.head)

    def done(self, root: Path) -> bool:
        """Whether the training finished."""
        return self.folder(root).metrics.is_file()


def default_run(plan: Ablations, head: str, seed: int) -> Run:
    """The default run of one of the plan's heads."""
    base = plan.heads[head]
    return Run(DEFAULT, head, seed, Path(base.config or f"configs/{head}.yaml"), base.data, base.set)


def list_runs(plan: Ablations) -> Iterator[Run]:
    """Every run of a plan, seed by seed, the defaults first because all levers are compared with them."""
    unknown = [f"{lever.name}: {lever.head}" for lever in plan.levers if lever.head not in plan.heads]
    raise_all(f"levers of unknown heads, expected one of {', '.join(plan.heads)}", unknown)
    names = Counter((lever.head, _folder_name(lever.name)) for lever in plan.levers)
    names.update((head, DEFAULT) for head in plan.heads)
    repeated = [f"{head}: {folder} is used {count} times" for (head, folder), count in names.items() if count > 1]
    raise_all("levers of one head would share a folder, expected different names", repeated)
    for seed in plan.seeds:
        for head in plan.heads:
            yield default_run(plan, head, seed)
        for lever in plan.levers:
            if not (lever.product or lever.removed):
                default = default_run(plan, lever.head, seed)
                settings = {**default.settings, **lever.set}
                if lever.steps:
                    texts = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
                    pixels = load_config(TaskConfig, default.config, texts).pixels
                    settings |= replace_steps(pixels, lever.steps, f"{lever.name}, {lever.head}")
                yield replace(default, lever=lever.name, data=lever.data or default.data, settings=settings)


def _folder_name(lever: str) -> str:
    """A lever's name as the name of a folder.

    >>> _folder_name("160x120, no grey/blur")
    '160x120,_no_grey-blur'
    """
    return lever.replace(" ", "_").replace("/", "-")
