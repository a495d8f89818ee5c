"""A plan of ablations: the defaults of some heads, levers against them, and the runs that this makes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.runtime.errors import raise_all
from heads.config.loader import Section, load_config
from heads.config.task import TaskConfig
from heads.run.folder import RunFolder, run_folder

DEFAULT = "default"


class Base(Section):
    """How one head is trained by default: its YAML (configs/HEAD.yaml), names of its data, folds, what differs.

    Without `folds` it is trained on the YAML's one; with several it is judged on the people of all of them.
    """

    config: str | None = None
    data: list[str]
    folds: list[int] = Field(default_factory=list)
    set: dict[str, Any] = Field(default_factory=dict)


class Entry(Section):
    """What gets a row of the table: its name, the head that it concerns, and what it is, for the reader."""

    name: str
    head: str
    group: str


class Lever(Entry):
    """One change against the default of a head; `data` and `set` are laid over the default's.

    `steps` changes steps of the head's `pixels`, wherever they stand: new values by name, a list puts other
    steps there, null leaves one out.
    """

    data: list[str] | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    steps: dict[str, Any] = Field(default_factory=dict)


class Product(Entry):
    """A head over the joint classes merged with the heads of the tasks: their probabilities multiplied."""


class Ablations(Section):
    """A plan: what it is measured on, the seeds, the defaults of the heads, the levers, and products."""

    title: str
    note: str
    seeds: Annotated[list[int], Field(min_length=1)]
    heads: dict[str, Base]
    levers: list[Lever]
    products: list[Product] = Field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A lever (or the default) of one head with one seed: a training for each fold, None the YAML's own."""

    lever: str
    head: str
    seed: int
    config: str | None
    data: Sequence[str]
    settings: Mapping[str, Any]
    folds: Sequence[int | None] = (None,)

    def folder(self, runs: Path) -> Path:
        """Where `train_task.py --runs` writes it."""
        return runs / _folder_name(self.lever) / f"seed-{self.seed}"

    def folders(self, runs: Path) -> list[RunFolder]:
        """The run folder of each fold."""
        return [run_folder(self.folder(runs), self.head, fold) for fold in self.folds]

    def done(self, runs: Path) -> bool:
        """Whether all of it came to its end."""
        return all(folder.metrics.is_file() for folder in self.folders(runs))


def default_head(plan: Ablations, head: str, seed: int) -> Run:
    """The default run of one of the plan's heads."""
    base = plan.heads[head]
    return Run(DEFAULT, head, seed, base.config, base.data, base.set, base.folds or (None,))


def list_runs(plan: Ablations) -> Iterator[Run]:
    """Every run of a plan, seed by seed: the defaults first, since all is compared with them."""
    entries: list[Entry] = [*plan.levers, *plan.products]
    unknown = [f"{entry.name}: {entry.head}" for entry in entries if entry.head not in plan.heads]
    raise_all(f"levers of heads that the plan has no default for; it has {', '.join(plan.heads)}", unknown)
    taken = Counter((entry.head, _folder_name(entry.name)) for entry in entries)
    taken.update((head, DEFAULT) for head in plan.heads)
    doubled = [f"{head}: {folder} is {count} of them" for (head, folder), count in taken.items() if count > 1]
    raise_all("runs of a head that would share a folder, expected names of their own", doubled)
    for seed in plan.seeds:
        for head in plan.heads:
            yield default_head(plan, head, seed)
        for lever in plan.levers:
            default = default_head(plan, lever.head, seed)
            settings = {**default.settings, **lever.set, **_changed_steps(lever, default.config)}
            yield replace(default, lever=lever.name, data=lever.data or default.data, settings=settings)


def list_products(plan: Ablations) -> Iterator[Run]:
    """What comes of multiplying defaults, seed by seed, as runs that nothing has to train."""
    for seed in plan.seeds:
        for product in plan.products:
            yield replace(default_head(plan, product.head, seed), lever=product.name)


def config_file(head: str, config: str | None) -> Path:
    """The YAML of a plan's head."""
    return Path(config or f"configs/{head}.yaml")


def _folder_name(lever: str) -> str:
    """A lever's folder, by its name.

    >>> _folder_name("160x120, no grey/blur")
    '160x120,_no_grey-blur'
    """
    return lever.replace(" ", "_").replace("/", "-")


def _changed_steps(lever: Lever, config: str | None) -> dict[str, Any]:
    """`pixels.train` and `pixels.evaluate` of a head's YAML with the steps that the lever changes."""
    if not lever.steps:
        return {}
    pixels = load_config(TaskConfig, config_file(lever.head, config), []).pixels
    named = {"pixels.train": pixels.train, "pixels.evaluate": pixels.evaluate}
    there = {_name(step) for steps in named.values() for step in steps}
    raise_all(
        f"{lever.name}: steps that {lever.head} does not have",
        [f"{name}: expected one of {', '.join(sorted(there))}" for name in lever.steps if name not in there],
    )
    return {key: [new for step in steps for new in _instead(step, lever.steps)] for key, steps in named.items()}


def _instead(step: Any, changes: Mapping[str, Any]) -> list[Any]:
    """What stands where `step` stood.

    >>> _instead("hflip", {}), _instead("hflip", {"hflip": None}), _instead("hflip", {"hflip": {"p": 0.1}})
    (['hflip'], [], [{'hflip': {'p': 0.1}}])
    """
    name = _name(step)
    if name not in changes:
        return [step]
    change = changes[name]
    if change is None:
        return []
    return change if isinstance(change, list) else [{name: change}]


def _name(step: Any) -> str:
    """A step's name: steps are names alone, or a name with its values.

    >>> _name("hflip"), _name({"grey": {"p": 0.1}})
    ('hflip', 'grey')
    """
    return step if isinstance(step, str) else next(iter(step))
