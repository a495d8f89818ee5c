"""train_task.py against the plain loop: an epoch of a frozen backbone, and all four trainings to their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import fmean, median

from bench.speed.results import ratio, spread, table
from bench.speed.running import python, read_output, run
from data.runtime.errors import InputError
from data.runtime.files import write_text
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.jobs import list_devices

TASKS = ("age_backbone", "age", "gender", "mask")
FROZEN = "gender"
PLAIN, OURS = "plain loop", "train_task.py"
PLAINLY = ("-m", "bench.plain", "train")
PLAIN_EPOCHS, FROZEN_EPOCHS = 2, 6
# What the plain loop does not have, so that both train the same; it validates after every epoch.
WITHOUT = ("training.mix=null", "training.ema=0.0", "training.validate_every=1")


@dataclass(frozen=True)
class Recipe:
    """What both loops are given.

    Attributes:
        data: the training folder.
        weights: of the backbone that trainings begin with.
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
            file, laid_over = self.configs / f"{task}.yaml", [*WITHOUT, *self.settings, *settings]
            config = load_config(TaskConfig, file, laid_over)
            if config.backbone.weights == "imagenet":
                config = load_config(TaskConfig, file, [*laid_over, f"backbone.weights={self.weights}"])
            write_text(into / f"{task}.yaml", config.to_yaml())
        return into


def frozen(recipe: Recipe, rounds: int, work: Path) -> str:
    """The section on an epoch with the backbone frozen, from the second on, as Markdown."""
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
    told = f"{FROZEN}, `--set {' --set '.join(still[:2])}`; the plain loop trains all of the backbone."
    return f"{told}\n\n{table(['an epoch from the second on', 'seconds', 'times plain'], rows)}"


@dataclass(frozen=True)
class Trained:
    """One round of a loop: the seconds that all of it took, and each head's epochs.

    Attributes:
        ends: by head, the second of the round at which each epoch was told.
        macro_f1: by head, that of each epoch on validation people.
    """

    seconds: float
    ends: Mapping[str, Sequence[float]]
    macro_f1: Mapping[str, Sequence[float]]

    def best(self, task: str) -> float:
        """A head's best macro F1."""
        return max(self.macro_f1[task])

    def until(self, levels: Mapping[str, float]) -> float:
        """The second at which the last head has come to its level; nothing is stopped there."""
        return max(
            next(end for end, f1 in zip(self.ends[task], self.macro_f1[task], strict=True) if f1 >= level)
            for task, level in levels.items()
        )


def one_after_the_other(recipe: Recipe, configs: Path, runs: Path) -> Trained:
    """The plain loop's round: each head in a process of its own."""
    began, ends, macro_f1 = 0.0, {}, {}
    for task in TASKS:
        ran = run(python(*PLAINLY, *recipe.options([task], configs, runs)))
        ends[task], macro_f1[task] = [began + end for end in ran.ends], ran.macro_f1
        began += ran.seconds
    return Trained(began, ends, macro_f1)


def all_at_once(recipe: Recipe, configs: Path, runs: Path) -> Trained:
    """The round of train_task.py: all heads by one command."""
    ran = run(python("train_task.py", *recipe.options(TASKS, configs, runs), *recipe.ours))
    ends = {task: ran.named[task].ends for task in TASKS}
    macro_f1 = {task: ran.named[task].macro_f1 for task in TASKS}
    return Trained(ran.seconds, ends, macro_f1)


def whole(recipe: Recipe, rounds: int, work: Path) -> str:
    """The section on the age backbone and three heads, each loop from nothing to its end, as Markdown.

    Each round has a seed of its own, for both loops: one training's macro F1 tells little on few people.

    Raises:
        InputError: heads would train one after another, and not be told apart.
    """
    if len(list_devices(len(TASKS))) < 2:
        raise InputError(
            "training: found room for one head at a time, expected for two, on cores or GPUs of their own; "
            "unset OMP_NUM_THREADS, or leave this section out with --only"
        )
    loops: dict[str, list[Trained]] = {PLAIN: [], OURS: []}
    for seed in range(rounds):
        rmtree(work, ignore_errors=True)
        configs = recipe.write(TASKS, work / "configs", [f"training.seed={seed}"])
        loops[PLAIN].append(one_after_the_other(recipe, configs, work / "plain"))
        loops[OURS].append(all_at_once(recipe, configs, work / "ours"))
        latest = "; ".join(f"{name} {summary(each[-1])}" for name, each in loops.items())
        print(f"round {seed + 1} of {rounds}: {latest}", flush=True)
    return page(recipe, loops)


def summary(trained: Trained) -> str:
    """A finished round in a line."""
    best = ", ".join(f"{task} {trained.best(task):.3f}" for task in TASKS)
    return f"{trained.seconds:.0f} s, best macro F1 {best}"


def page(recipe: Recipe, loops: Mapping[str, Sequence[Trained]]) -> str:
    """Finished rounds as a table, and how it was made.

    The level that both loops reach is, for each head and round, the lower one of both loops' best macro F1; a
    loop has reached it when its last head has.
    """
    pairs = list(zip(loops[PLAIN], loops[OURS], strict=True))
    levels = [{task: min(each.best(task) for each in pair) for task in TASKS} for pair in pairs]
    seconds = {name: [each.seconds for each in rounds] for name, rounds in loops.items()}
    to_level = {
        name: [each.until(level) for each, level in zip(rounds, levels, strict=True)]
        for name, rounds in loops.items()
    }
    rows = []
    for name, rounds in loops.items():
        against, to_same = (ratio(of[name], of[PLAIN], smaller_is_better=True) for of in (seconds, to_level))
        f1 = [spread([each.best(task) for each in rounds]) for task in TASKS]
        rows.append([name, spread(seconds[name]), against, spread(to_level[name]), to_same, *f1])
    header = ["", "seconds", "times plain", "seconds to the same macro F1", "times plain", *TASKS]
    both = " ".join(f"--set {setting}" for setting in recipe.settings) or "nothing set"
    less = [fmean(ours.best(task) - plain.best(task) for task in TASKS) for plain, ours in pairs]
    change = f"{fmean(less):+.3f} ({min(less):+.3f} to {max(less):+.3f})"
    how = (
        f"Both loops: `{both}`, each round with a seed of its own; train_task.py, all heads by one command:",
        f"`{' '.join(read_output(recipe.ours))}`. The same macro F1 is, for each head and round, what both loops",
        "come to, and reached when the last head has. The last columns are the best macro F1 on validation;",
        f"from plain to ours its mean over the four is {change}.",
    )
    return f"{' '.join(how)}\n\n{table(header, rows)}"
