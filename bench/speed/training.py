"""train_task.py against the plain loop: an epoch of a frozen trunk, and all four trainings to their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from statistics import median

from bench.speed.results import ratio, spread, table
from bench.speed.running import Ran, python, run, told_of

TASKS = ("age_backbone", "age", "gender", "mask")
FROZEN = "gender"
PLAIN, OURS = "plain loop", "train_task.py"
PLAIN_EPOCHS, FROZEN_EPOCHS = 2, 6


@dataclass(frozen=True)
class Recipe:
    """What both loops are given.

    Attributes:
        data: the training folder.
        portraits: photographs of known age, for age_backbone.
        weights: of the trunk that trainings begin with.
        configs: the folder of YAMLs.
        settings: key=value over the YAMLs, for both loops.
        ours: further options of train_task.py, in the whole training.
    """

    data: Path
    portraits: Path
    weights: Path
    configs: Path
    settings: Sequence[str] = ()
    ours: Sequence[str] = ()

    def options(self, task: str, runs: Path, settings: Sequence[str]) -> list[str]:
        """Options of either loop for one head."""
        data = self.portraits if task == "age_backbone" else self.data
        given = ["--task", task, "--data", str(data), "--runs", str(runs)]
        return given + [each for setting in (*self.settings, *settings) for each in ("--set", setting)]


def frozen(recipe: Recipe, rounds: int, work: Path) -> str:
    """The section on an epoch with the trunk frozen, from the second on, as Markdown."""
    begun = [f"backbone.weights={recipe.weights}"]
    still = ["backbone.freeze=all", "training.feature_views=2", f"training.epochs={FROZEN_EPOCHS}"]
    commands = {
        PLAIN: _plain(recipe, FROZEN, work / "plain", [*begun, f"training.epochs={PLAIN_EPOCHS}"]),
        OURS: _ours(recipe, FROZEN, work / "ours", [*begun, *still], ["--cache", str(work / "cache")]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            rmtree(work / "ours", ignore_errors=True)
            seconds[name].append(median(run(command).epochs))
    rows = [
        [name, spread(each), ratio(each, seconds[PLAIN], smaller_is_better=True)]
        for name, each in seconds.items()
    ]
    told = f"{FROZEN}, `--set {' --set '.join(still[:2])}`; the plain loop trains all of the trunk."
    return f"{told}\n\n{table(['an epoch from the second on', 'seconds', 'times plain'], rows)}"


@dataclass
class Loop:
    """What each round of a loop came to: each task's run."""

    rounds: list[dict[str, Ran]] = field(default_factory=list)

    def seconds(self) -> list[float]:
        """Of all tasks, in each round."""
        return [sum(ran.seconds for ran in each.values()) for each in self.rounds]

    def until(self, levels: Sequence[Mapping[str, float]]) -> list[float]:
        """Seconds until each task reached its level of the round."""
        return [
            sum(ran.until(level[task]) for task, ran in each.items())
            for each, level in zip(self.rounds, levels, strict=True)
        ]


def whole(recipe: Recipe, rounds: int, work: Path) -> str:
    """The section on the age trunk and three heads, each loop from nothing to its end, as Markdown.

    The level that both reach is, for each task and round, the lower one of both loops' best macro F1.
    """
    loops = {PLAIN: Loop(), OURS: Loop()}
    for _ in range(rounds):
        rmtree(work, ignore_errors=True)
        for name, command in ((PLAIN, _plain), (OURS, _ours)):
            ran = {}
            for task in TASKS:
                begun = [] if task in ("age", "gender") else [f"backbone.weights={recipe.weights}"]
                ran[task] = run(command(recipe, task, work / name, begun, recipe.ours))
            loops[name].rounds.append(ran)
    pairs = zip(loops[PLAIN].rounds, loops[OURS].rounds, strict=True)
    levels = [
        {task: min(max(one[task].macro_f1), max(two[task].macro_f1)) for task in TASKS} for one, two in pairs
    ]
    plain = loops[PLAIN]
    rows = []
    for name, loop in loops.items():
        to_level = loop.until(levels)
        f1 = [spread([max(each[task].macro_f1) for each in loop.rounds]) for task in TASKS]
        against = ratio(loop.seconds(), plain.seconds(), smaller_is_better=True)
        to_same = ratio(to_level, plain.until(levels), smaller_is_better=True)
        rows.append([name, spread(loop.seconds()), against, spread(to_level), to_same, *f1])
    header = ["", "seconds", "times plain", "seconds to the same macro F1", "times plain", *TASKS]
    options = " ".join(told_of(recipe.ours)) or "no further options"
    told = f"Each head in a process of its own, starting included; `{options}`."
    return f"{told} The last columns are the best macro F1 on validation.\n\n{table(header, rows)}"


def _plain(
    recipe: Recipe, task: str, runs: Path, settings: Sequence[str], _options: Sequence[str] = ()
) -> list[str]:
    given = recipe.options(task, runs, settings)
    return python("-m", "bench.plain", "train", "--config", recipe.configs, *given)


def _ours(
    recipe: Recipe, task: str, runs: Path, settings: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    given = recipe.options(task, runs, settings)
    return python("train_task.py", "--config", recipe.configs, *given, *options)
