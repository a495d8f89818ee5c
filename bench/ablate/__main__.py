"""Train each lever of a plan beside the plan's defaults, and write the table of their figures.

python -m bench.ablate train --plan PLAN --runs RUNS --data train=DIR --file backbone=FILE
python -m bench.ablate collect --plan PLAN --runs RUNS --figures bench/ablate/ablations.csv
python -m bench.ablate table --plan PLAN [...] --figures bench/ablate/ablations.csv --out docs/ablations.md

Runs that have a metrics.json are not trained again. All figures are of the validation fold, whose people no run
of the plan was trained on; evaluation people are not used.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.runtime.errors import (
    InputError,
    add_debug_option,
    did_you_mean,
    raise_all,
    run_script,
    whole_number_from,
)
from data.runtime.files import write_text
from data.runtime.processes import count_cores

if TYPE_CHECKING:
    from bench.ablate.plan import Ablations, Run  # functions import it late, for --help


def train_command(
    run: "Run", root: Path, folders: Mapping[str, str], files: Mapping[str, str], cache: Path | None = None
) -> list[str]:
    """The call of train_task.py for a run; `{name}` in a setting stands for one of `files`."""
    missing = [f"{name}: give --data {name}=DIR" for name in run.data if name not in folders]
    raise_all("data folders of the plan are missing", missing)
    command = [sys.executable, "train_task.py", "--task", run.head, "--config", str(run.config)]
    command += ["--runs", str(run.runs(root)), *(["--cache", str(cache)] if cache else [])]
    for name in run.data:
        command += ["--data", folders[name]]
    for key, value in {**run.settings, "training.seed": run.seed}.items():
        try:
            setting = value.format_map(files) if isinstance(value, str) else value
        except KeyError as name:
            raise InputError(f"{run.lever}: {key}={value}: give --file {name.args[0]}=FILE") from None
        command += ["--set", f"{key}={json.dumps(setting, ensure_ascii=False)}"]  # JSON is YAML on one line
    return command


def train(args: argparse.Namespace) -> None:
    """Train the runs of the plan that are not finished; failures are listed at the end."""
    from bench.ablate.plan import list_runs
    from heads.run.jobs import Job, run_jobs

    [plan] = _load_plans([args.plan])
    runs = every = list(list_runs(plan))
    for name in ("lever", "head", "seed"):
        known, wanted = {getattr(run, name) for run in every}, getattr(args, name)
        unknown = [f"{each}{did_you_mean(str(each), map(str, known))}" for each in wanted or [] if each not in known]
        raise_all(f"{args.plan}: no such {name} in the plan", unknown)
        runs = [run for run in runs if not wanted or getattr(run, name) in wanted]
    cores = str(max(1, count_cores() // args.jobs))
    workers = ["--set", f"training.workers={cores}"] if args.jobs > 1 else []
    jobs = []
    for run in runs:
        if not run.done(args.runs):
            command = train_command(run, args.runs, dict(args.data), dict(args.file), args.cache)
            jobs.append(Job(f"{run.lever}, {run.head}, seed {run.seed}", [*command, *workers]))
    codes = run_jobs(jobs, [{"OMP_NUM_THREADS": cores}] * args.jobs)
    raise_all("runs failed; the others are done", [name for name, code in codes.items() if code])


def collect(args: argparse.Namespace) -> None:
    """Write the figures of finished runs into the CSV."""
    if len(args.plan) != len(args.runs):
        found = f"{len(args.plan)} --plan and {len(args.runs)} --runs"
        raise InputError(f"collect: found {found}, expected one --runs for each --plan, in their order")
    from bench.ablate.figures import collect as collect_figures

    plans = _load_plans(args.plan)
    count = collect_figures(plans, args.runs, args.figures, dict(args.data))
    print(f"{args.figures}: figures of {count} runs")


def table(args: argparse.Namespace) -> None:
    """Write the table of the collected figures."""
    from bench.ablate.table import read_figures, write_page

    write_text(args.out, write_page(_load_plans(args.plan), read_figures(args.figures)))
    print(args.out)


def _load_plans(paths: Sequence[Path]) -> "list[Ablations]":
    from bench.ablate.plan import Ablations
    from heads.config.loader import load_config

    return [load_config(Ablations, path, []) for path in paths]


def parse_pair(text: str) -> tuple[str, str]:
    """Split `name=value` of the command line."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=PATH")
    return name, value


def main() -> None:
    """Read the command line and run its command."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablate", description="Measure levers against the defaults.")
    verbs = parser.add_subparsers(required=True)
    trains = verbs.add_parser("train", help="train the runs of a plan that are not finished")
    trains.add_argument("--plan", type=Path, required=True, metavar="FILE")
    trains.add_argument("--runs", type=Path, required=True, metavar="DIR")
    trains.add_argument("--data", type=parse_pair, action="append", default=[], metavar="NAME=DIR")
    trains.add_argument("--file", type=parse_pair, action="append", default=[], metavar="NAME=FILE")
    trains.add_argument("--cache", type=Path, metavar="DIR", help="of train_task.py")
    jobs = "runs side by side, each on 1/N of the cores (default: 1)"
    trains.add_argument("--jobs", type=whole_number_from(1), default=1, metavar="N", help=jobs)
    only = "only these levers; may be repeated"
    trains.add_argument("--only", action="append", dest="lever", metavar="LEVER", help=only)
    trains.add_argument("--head", action="append", help="only these heads; may be repeated")
    trains.add_argument("--seed", type=int, action="append", help="only these seeds; may be repeated")
    trains.set_defaults(call=train)
    collects = verbs.add_parser("collect", help="write the figures of finished runs into a CSV")
    collects.add_argument("--runs", type=Path, action="append", required=True, metavar="DIR", help="one per plan")
    held_out = "held-out folders of the plans"
    collects.add_argument("--data", type=parse_pair, action="append", default=[], metavar="NAME=DIR", help=held_out)
    collects.set_defaults(call=collect)
    tables = verbs.add_parser("table", help="write the table of a CSV of figures")
    tables.add_argument("--out", type=Path, required=True, metavar="FILE")
    tables.set_defaults(call=table)
    for verb in (collects, tables):
        verb.add_argument("--plan", type=Path, action="append", required=True, metavar="FILE")
        verb.add_argument("--figures", type=Path, required=True, metavar="CSV")
    add_debug_option(parser, trains, collects, tables)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    run_script(main)
