"""Export the whole ensemble as one graph: images to every task's and the joint probabilities.

python -m ensemble.export --runs RUNS --format onnx

Scaling, normalisation, folds, test-time views, temperatures and the joint code are inside; a model card is written
beside it.
"""

import argparse

from data.runtime.errors import run_script
from ensemble.options import add_config_option
from heads.export.__main__ import add_arguments


def main() -> None:
    """Read the command line and write the ensemble; torch is imported after, so that --help is quick."""
    parser = argparse.ArgumentParser(prog="python -m ensemble.export", description=(__doc__ or "").split("\n")[0])
    add_arguments(parser)
    add_config_option(parser, of_runs=True)
    args = parser.parse_args()
    from ensemble.export.graph import export_with_card
    from ensemble.inference.load import load_tasks

    tasks = load_tasks(args.runs, args.config)
    path = export_with_card(tasks, args.out or args.runs / "export", args.kind, args.maps, args.trained_on, args.terms)
    print(f"{path}, {path.with_suffix('.md')}")


if __name__ == "__main__":
    run_script(main)
