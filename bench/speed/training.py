"""train_task.py against the plain loop: an epoch with a frozen backbone, and four whole trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import fmean, median

from bench.markdown import table
from bench.speed.results import ratio, spread
from bench.speed.running import Process, python, run, without_folders
from data.runtime.errors import InputError
from data.runtime.files import write_text
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.jobs import list_devices

TASKS = ("age_backbone", "age", "gender", "mask")
FROZEN = "gender"
PLAIN, OURS = "plain loop", "train_task.py"
PLAIN_TRAIN = ("-m", "bench.plain", "train")
PLAIN_EPOCHS, FROZEN_EPOCHS = 2, 6
# The plain loop has neither of the first two and validates after every epoch: both loops train the same.
WITHOUT = ("training.mix=null", "training.ema=0.0", "training.validate_every=1")


@dataclass(frozen=True)
class Recipe:
    """The input of both loops."""

    data: Path  # the training folder
    weights: Path  # initial weights of backbones
    configs: Path  # folder of the YAML files
    settings: Sequence[str] = ()  # key=value over the YAML files
    ours: Sequence[str] = ()  # further options of train_task.py in the whole training

    def options(self, tasks: Sequence[str], configs: Path, runs: Path) -> list[str]:
        """Options of either loop for some heads, with the YAML files of a folder."""
        return ["--task", *tasks, "--config", str(configs), "--data", str(self.data), "--runs", str(runs)]

    def write(self, tasks: Sequence[str], into: Path, settings: Sequence[str] = ()) -> Path:
        """Write YAML files of heads with all settings, and with the weights in place of those from ImageNet."""
        for task in tasks:
            file, overrides = self.configs / f"{task}.yaml", [*WITHOUT, *self.settings, *settings]
            config = load_config(TaskConfig, file, overrides)
            if config.backbone.weights == "imagenet":
                config = load_config(TaskConfig, file, [*overrides, f"backbone.weights={self.weights}"])
            write_text(into / f"{task}.yaml", config.to_yaml())
        return into


def measure_frozen(recipe: Recipe, rounds: int, work: Path) -> str:
    """Write the section on an epoch with the backbone frozen, from the second on, as Markdown."""
    weights = f"backbone.weights={recipe.weights}"
    frozen = ["backbone.freeze=all", "training.feature_views=2"]
    plain_yaml = recipe.write([FROZEN], work / "moving", [weights, f"training.epochs={PLAIN_EPOCHS}"])
    our_yaml = recipe.write([FROZEN], work / "still", [weights, *frozen, f"training.epochs={FROZEN_EPOCHS}"])
    cache = ("--cache", work / "cache")
    commands = {
        PLAIN: python(*PLAIN_TRAIN, *recipe.options([FROZEN], plain_yaml, work / "plain")),
        OURS: python("train_task.py", *recipe.options([FROZEN], our_yaml, work / "ours"), *cache),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            rmtree(work / "ours", ignore_errors=True)
            seconds[name].append(median(run(command).epochs))
    rows = [[name, spread(each), ratio(each, seconds[PLAIN], smaller_is_better=True)] for name, each in seconds.items()]
    intro = f"{FROZEN}, `--set {' --set '.join(frozen)}`; the plain loop trains all of the backbone."
    return f"{intro}\n\n{table(['an epoch from the second on', 'seconds', 'times plain'], rows)}"


def run_plain(recipe: Recipe, configs: Path, runs: Path) -> Process:
    """Run a round of the plain loop: one head after the other."""
    whole = Process()
    for task in TASKS:
        process = run(python(*PLAIN_TRAIN, *recipe.options([task], configs, runs)))
        whole.heads[task] = Process(ends=[whole.seconds + end for end in process.ends], macro_f1=process.macro_f1)
        whole.seconds += process.seconds
    return whole


def best(process: Process, task: str) -> float:
    """A head's best macro F1."""
    return max(process.heads[task].macro_f1)


def seconds_to(process: Process, levels: Mapping[str, float]) -> float:
    """Second at which the last head has reached its level of macro F1."""
    first = []
    for task, level in levels.items():
        epochs = zip(process.heads[task].ends, process.heads[task].macro_f1, strict=True)
        first.append(next(end for end, f1 in epochs if f1 >= level))
    return max(first)


def measure_whole(recipe: Recipe, rounds: int, work: Path) -> str:
    """Write the section on the age backbone and three heads, trained from start to end, as Markdown.

    Each round has a seed of its own, for both loops, since macro F1 of one training varies on few people.

    Raises:
        InputError: train_task.py would train the heads one after another, which does not print their names.
    """
    if len(list_devices(len(TASKS))) < 2:
        raise InputError(
            "training: found room for one head at a time, expected for two, on cores or GPUs of their own; "
            "unset OMP_NUM_THREADS, or leave this section out with --only"
        )
    loops: dict[str, list[Process]] = {PLAIN: [], OURS: []}
    for seed in range(rounds):
        rmtree(work, ignore_errors=True)
        configs = recipe.write(TASKS, work / "configs", [f"training.seed={seed}"])
        loops[PLAIN].append(run_plain(recipe, configs, work / "plain"))
        ours = recipe.options(TASKS, configs, work / "ours")
        loops[OURS].append(run(python("train_task.py", *ours, *recipe.ours)))
        for name, finished in loops.items():
            scores = ", ".join(f"{task} {best(finished[-1], task):.3f}" for task in TASKS)
            print(
                f"round {seed + 1} of {rounds}: {name} {finished[-1].seconds:.0f} s, macro F1 {scores}",
                flush=True,
            )
    return write_section(recipe, loops)


def write_section(recipe: Recipe, loops: Mapping[str, Sequence[Process]]) -> str:
    """Write finished rounds as a table.

    The macro F1 that both loops reach is, for each head and round, the lower one of their best; a loop has
    reached it when its last head has.
    """
    pairs = list(zip(loops[PLAIN], loops[OURS], strict=True))
    levels = [{task: min(best(each, task) for each in pair) for task in TASKS} for pair in pairs]
    seconds = {name: [each.seconds for each in rounds] for name, rounds in loops.items()}
    to_level = {
        name: [seconds_to(each, level) for each, level in zip(rounds, levels, strict=True)]
        for name, rounds in loops.items()
    }
    rows = []
    for name, rounds in loops.items():
        row = [name]
        for each in (seconds, to_level):
            row += [spread(each[name]), ratio(each[name], each[PLAIN], smaller_is_better=True)]
        rows.append([*row, *(spread([best(each, task) for each in rounds]) for task in TASKS)])
    header = ["", "seconds", "times plain", "seconds to the same macro F1", "times plain", *TASKS]
    both = " ".join(f"--set {setting}" for setting in recipe.settings) or "nothing set"
    change = [fmean(best(ours, task) - best(plain, task) for task in TASKS) for plain, ours in pairs]
    intro = (
        f"Both loops: `{both}`, each round with a seed of its own; train_task.py, all heads by one command: "
        f"`{without_folders(recipe.ours)}`. The same macro F1 is, for each head and round, what both loops "
        "reach; it is reached when the last head has. The last columns are the best validation macro F1; from "
        f"plain to ours its mean over the four changes by {fmean(change):+.3f} "
        f"({min(change):+.3f} to {max(change):+.3f})."
    )
    return f"{intro}\n\n{table(header, rows)}"
