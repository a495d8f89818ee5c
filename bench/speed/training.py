"""train_task.py against the plain loop: an epoch of a frozen trunk, and all four trainings to their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median

from bench.speed.results import ratio, spread, table
from bench.speed.running import Ran, python, run, told_of
from data.files import write_text
from heads.config import TaskConfig
from heads.schema import load

TASKS = ("age_backbone", "age", "gender", "mask")
FROZEN = "gender"
PLAIN, OURS = "plain loop", "train_task.py"
PLAINLY = ("-m", "bench.plain", "train")
PLAIN_EPOCHS, FROZEN_EPOCHS = 2, 6


@dataclass(frozen=True)
class Recipe:
    """What both loops are given.

    Attributes:
        data: the training folder.
        weights: of the trunk that trainings begin with.
        configs: the folder of YAMLs.
        settings: key=value over the YAMLs, for both loops.
        ours: further options of train_task.py, in the whole training.
    """

    data: Path
    weights: Path
    configs: Path
    settings: Sequence[str] = ()
    ours: Sequence[str] = ()

    def options(self, tasks: Sequence[str], configs: Path, runs: Path) -> list[str]:
        """Options of either loop for some heads, with the YAMLs of a folder."""
        return ["--task", *tasks, "--config", str(configs), "--data", str(self.data), "--runs", str(runs)]

    def write(self, tasks: Sequence[str], into: Path, settings: Sequence[str] = ()) -> Path:
        """YAMLs of heads with the settings laid over, and with the weights in place of those from ImageNet."""
        into.mkdir(parents=True, exist_ok=True)
        for task in tasks:
            file, laid_over = self.configs / f"{task}.yaml", [*self.settings, *settings]
            config = load(TaskConfig, file, laid_over)
            if config.backbone.weights == "imagenet":
                config = load(TaskConfig, file, [*laid_over, f"backbone.weights={self.weights}"])
            write_text(into / f"{task}.yaml", config.to_yaml())
        return into


def frozen(recipe: Recipe, rounds: int, work: Path) -> str:
    """The section on an epoch with the trunk frozen, from the second on, as Markdown."""
    begun = [f"backbone.weights={recipe.weights}"]
    still = ["backbone.freeze=all", "training.feature_views=2", f"training.epochs={FROZEN_EPOCHS}"]
    plainly = recipe.write([FROZEN], work / "moving", [*begun, f"training.epochs={PLAIN_EPOCHS}"])
    frozenly = recipe.write([FROZEN], work / "still", [*begun, *still])
    commands = {
        PLAIN: python(*PLAINLY, *recipe.options([FROZEN], plainly, work / "plain")),
        OURS: python(
            "train_task.py", *recipe.options([FROZEN], frozenly, work / "ours"), "--cache", work / "cache"
        ),
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


@dataclass(frozen=True)
class Trained:
    """One round of a loop: the seconds that it took, and when each head told its epochs."""

    seconds: float
    heads: Mapping[str, Ran]

    def best(self, task: str) -> float:
        """A head's best macro F1 on its validation people."""
        return max(self.heads[task].macro_f1)


def one_after_the_other(recipe: Recipe, configs: Path, runs: Path) -> Trained:
    """The plain loop's round: each head in a process of its own."""
    heads = {task: run(python(*PLAINLY, *recipe.options([task], configs, runs))) for task in TASKS}
    return Trained(sum(ran.seconds for ran in heads.values()), heads)


def whole(recipe: Recipe, rounds: int, work: Path) -> str:
    """The section on the age trunk and three heads, each loop from nothing to its end, as Markdown.

    The level that both reach is, for each head and round, the lower one of both loops' best macro F1; a loop
    has reached it when its last head has. What the plain loop trains a head beyond its level does not count.
    """
    seconds: dict[str, list[float]] = {PLAIN: [], OURS: []}
    to_level: dict[str, list[float]] = {PLAIN: [], OURS: []}
    best: dict[str, dict[str, list[float]]] = {name: {task: [] for task in TASKS} for name in seconds}
    for _ in range(rounds):
        rmtree(work, ignore_errors=True)
        configs = recipe.write(TASKS, work / "configs")
        plain = one_after_the_other(recipe, configs, work / "plain")
        ran = run(python("train_task.py", *recipe.options(TASKS, configs, work / "ours"), *recipe.ours))
        ours = Trained(ran.seconds, ran.named)
        levels = {task: min(plain.best(task), ours.best(task)) for task in TASKS}
        to_level[PLAIN].append(sum(plain.heads[task].until(levels[task]) for task in TASKS))
        to_level[OURS].append(max(ours.heads[task].until(levels[task]) for task in TASKS))
        for name, each in ((PLAIN, plain), (OURS, ours)):
            seconds[name].append(each.seconds)
            for task in TASKS:
                best[name][task].append(each.best(task))
    rows = []
    for name in seconds:
        against, to_same = (ratio(of[name], of[PLAIN], smaller_is_better=True) for of in (seconds, to_level))
        f1 = [spread(best[name][task]) for task in TASKS]
        rows.append([name, spread(seconds[name]), against, spread(to_level[name]), to_same, *f1])
    header = ["", "seconds", "times plain", "seconds to the same macro F1", "times plain", *TASKS]
    both = " ".join(f"--set {setting}" for setting in recipe.settings) or "nothing set"
    told = f"Both loops: `{both}`; train_task.py, all heads by one command: `{' '.join(told_of(recipe.ours))}`."
    return f"{told} The last columns are the best macro F1 on validation.\n\n{table(header, rows)}"
