"""Train each lever of a plan beside the plan's defaults, and write the table from what the runs left.

python -m bench.ablate train --plan PLAN --runs RUNS --data train=DIR --file backbone=FILE
python -m bench.ablate collect --plan PLAN --runs RUNS --figures bench/ablate/ablations.csv
python -m bench.ablate table --plan PLAN [--plan PLAN ...] --figures bench/ablate/ablations.csv --out docs/ablations.md

A run that has its metrics.json is not trained again. Nothing here sees evaluation people: all figures are those
of the validation fold, whose people no run of the plan trained on.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.ablate.plan import Ablations, Run, list_runs
from data.runtime.errors import InputError, add_debug_option, did_you_mean, raise_all, run_script
from data.runtime.files import write_text
from data.runtime.processes import count_cores
from heads.config.loader import load_config
from heads.config.yaml_reader import dump_yaml
from heads.run.jobs import Job, run_jobs


def command(
    run: Run,
    fold: int | None,
    runs: Path,
    folders: Mapping[str, str],
    files: Mapping[str, str],
    cache: Path | None = None,
) -> list[str]:
    """The call of train_task.py that makes one fold of `run`.

    `{name}` in a setting stands for one of `files`, and `{fold}` in a file's path for the fold.
    """
    missing = [name for name in run.data if name not in folders]
    raise_all("data of the plan are not given", [f"{name}: give --data {name}=DIR" for name in missing])
    call = [sys.executable, "train_task.py", "--task", run.head, "--runs", str(run.folder(runs))]
    call += ["--config", run.config] if run.config else []
    call += [] if fold is None else ["--fold", str(fold)]
    call += ["--cache", str(cache)] if cache else []
    for name in run.data:
        call += ["--data", folders[name]]
    files = {name: path.replace("{fold}", str(fold)) for name, path in files.items()}
    for key, value in {**run.settings, "training.seed": run.seed}.items():
        try:
            shown = value.format_map(files) if isinstance(value, str) else value
        except KeyError as name:
            raise InputError(f"{run.lever}: {key}={value}: give --file {name.args[0]}=FILE") from None
        call += ["--set", f"{key}={_flow(shown)}"]
    return call


def _flow(value: Any) -> str:
    """A value as YAML on one line, as --set reads it."""
    import yaml

    text = yaml.safe_load(dump_yaml({"value": value}))["value"]
    return yaml.safe_dump(text, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def train(args: argparse.Namespace) -> None:
    """Train what the plan names and is not there yet; what fails is told at the end."""
    plan = load_config(Ablations, args.plan, [])
    runs = list(list_runs(plan))
    for option, asked, known in (
        ("--only", args.only, {run.lever for run in runs}),
        ("--head", args.head, set(plan.heads)),
        ("--seed", args.seed, set(plan.seeds)),
    ):
        names = [str(name) for name in asked or [] if name not in known]
        told = [f"{name}{did_you_mean(name, map(str, known))}" for name in names]
        raise_all(f"{args.plan}: {option}: not in the plan", told)
    wanted = [
        run
        for run in runs
        if (not args.only or run.lever in args.only)
        and (not args.head or run.head in args.head)
        and (args.seed is None or run.seed in args.seed)
    ]
    share = str(max(1, count_cores() // args.jobs))
    workers = ["--set", f"training.workers={share}"] if args.jobs > 1 else []
    jobs = []
    for run in wanted:
        for fold, folder in zip(run.folds, run.folders(args.runs), strict=True):
            if not folder.metrics.is_file():
                call = command(run, fold, args.runs, dict(args.data), dict(args.file), args.cache)
                name = f"{run.lever}, {run.head}, seed {run.seed}" + ("" if fold is None else f", fold {fold}")
                jobs.append(Job(name, [*call, *workers]))
    codes = run_jobs(jobs, [{"OMP_NUM_THREADS": share}] * args.jobs)
    raise_all("runs failed; the others are done", [name for name, code in codes.items() if code])


def collect(args: argparse.Namespace) -> None:
    """Keep the figures of what is done so far."""
    if len(args.plan) != len(args.runs):
        found = f"{len(args.plan)} --plan and {len(args.runs)} --runs"
        raise InputError(f"collect: found {found}, expected one --runs for each --plan, in their order")
    from bench.ablate.figures import collect as collect_figures

    plans = [load_config(Ablations, plan, []) for plan in args.plan]
    print(f"{args.figures}: figures of {collect_figures(plans, args.runs, args.figures)} runs")


def table(args: argparse.Namespace) -> None:
    """Write the table of the figures that were kept."""
    from bench.ablate.figures import read_figures
    from bench.ablate.table import write_page

    plans = [load_config(Ablations, plan, []) for plan in args.plan]
    write_text(args.out, write_page(plans, read_figures(args.figures)))
    print(args.out)


def pair(text: str) -> tuple[str, str]:
    """`name=value` of the command line."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=PATH")
    return name, value


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure levers against the defaults.")
    verbs = parser.add_subparsers(required=True)
    trains = verbs.add_parser("train", help="train what the plan names and is not there yet")
    trains.add_argument("--plan", type=Path, required=True, metavar="FILE")
    trains.add_argument("--runs", type=Path, required=True, metavar="DIR")
    trains.add_argument("--data", type=pair, action="append", default=[], metavar="NAME=DIR")
    trains.add_argument("--file", type=pair, action="append", default=[], metavar="NAME=FILE")
    trains.add_argument("--cache", type=Path, metavar="DIR", help="of train_task.py")
    trains.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 65),
        default=1,
        metavar="N",
        help="side by side, on 1/N of the count_cores each",
    )
    trains.add_argument("--only", action="append", metavar="LEVER", help="only these; may be repeated")
    trains.add_argument("--head", action="append", help="only these; may be repeated")
    trains.add_argument("--seed", type=int, action="append", help="only these; may be repeated")
    trains.set_defaults(call=train)
    collects = verbs.add_parser("collect", help="keep the figures of what is done so far")
    collects.add_argument("--plan", type=Path, action="append", required=True, metavar="FILE")
    collects.add_argument("--runs", type=Path, action="append", required=True, metavar="DIR", help="one a plan")
    collects.add_argument("--figures", type=Path, required=True, metavar="CSV", help="goes on from what it has")
    collects.set_defaults(call=collect)
    tables = verbs.add_parser("table", help="write the table of the figures that were kept")
    tables.add_argument("--plan", type=Path, action="append", required=True, metavar="FILE")
    tables.add_argument("--figures", type=Path, required=True, metavar="CSV")
    tables.add_argument("--out", type=Path, required=True, metavar="FILE")
    tables.set_defaults(call=table)
    add_debug_option(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then train or write."""
    args = parse()
    args.call(args)


if __name__ == "__main__":
    run_script(main)
