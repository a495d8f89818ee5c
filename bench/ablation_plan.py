"""A plan of ablations: the defaults of some heads, levers against them, and the runs that this makes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.errors import refuse
from heads.config import TaskConfig
from heads.run import run_folder
from heads.schema import Section, load

DEFAULT = "default"


class Base(Section):
    """How one head is trained by default: its YAML (configs/HEAD.yaml), names of its data, what differs."""

    config: str | None = None
    data: list[str]
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
    """One training: a lever (or the default) of one head with one seed."""

    lever: str
    head: str
    seed: int
    config: str | None
    data: Sequence[str]
    settings: Mapping[str, Any]

    def folder(self, runs: Path) -> Path:
        """Where `train_task.py --runs` writes it."""
        return runs / self.lever.replace(" ", "_").replace("/", "-") / f"seed-{self.seed}"

    def done(self, runs: Path) -> bool:
        """Whether it came to its end."""
        return run_folder(self.folder(runs), self.head).metrics.is_file()


def runs_of(plan: Ablations) -> Iterator[Run]:
    """Every run of a plan, seed by seed: the defaults first, since all is compared with them."""
    entries: list[Entry] = [*plan.levers, *plan.products]
    unknown = [f"{entry.name}: {entry.head}" for entry in entries if entry.head not in plan.heads]
    refuse(f"levers of heads that the plan has no default for; it has {', '.join(plan.heads)}", unknown)
    for seed in plan.seeds:
        for head, base in plan.heads.items():
            yield Run(DEFAULT, head, seed, base.config, base.data, base.set)
        for lever in plan.levers:
            base = plan.heads[lever.head]
            settings = base.set | lever.set | _changed_steps(lever, base.config)
            yield Run(lever.name, lever.head, seed, base.config, lever.data or base.data, settings)


def products_of(plan: Ablations) -> Iterator[Run]:
    """What comes of multiplying defaults, seed by seed, as runs that nothing has to train."""
    for seed in plan.seeds:
        for product in plan.products:
            base = plan.heads[product.head]
            yield Run(product.name, product.head, seed, base.config, base.data, base.set)


def config_file(head: str, config: str | None) -> Path:
    """The YAML of a plan's head."""
    return Path(config or f"configs/{head}.yaml")


def _changed_steps(lever: Lever, config: str | None) -> dict[str, Any]:
    """`pixels.train` and `pixels.evaluate` of a head's YAML with the steps that the lever changes."""
    if not lever.steps:
        return {}
    pixels = load(TaskConfig, config_file(lever.head, config), []).pixels
    named = {"pixels.train": pixels.train, "pixels.evaluate": pixels.evaluate}
    there = {_name(step) for steps in named.values() for step in steps}
    refuse(
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
