"""Convert a Keras ResNet-50, with its output layer if it has one, to a file for `backbone.weights`.

python -m heads.convert FILE.hdf5 OUT.safetensors [--input bgr]

The new file describes its backbone and the scaling of its pixels, which `train_task.py` then uses.
"""

import argparse
from pathlib import Path

from data.runtime.errors import InputError, add_debug_option, run_script
from heads.convert.keras_file import INPUTS


def main() -> None:
    """Read the command line and convert; torch is imported after, so that --help is quick."""
    parser = argparse.ArgumentParser(prog="python -m heads.convert", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help=".hdf5, .h5, .weights.h5 or .keras")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--input", choices=INPUTS, default="caffe", help="scaling of its pixels (default: %(default)s)")
    parser.add_argument("--output", metavar="LAYER", help="the output layer, if the file has several")
    add_debug_option(parser)
    args = parser.parse_args()
    if args.out.suffix != ".safetensors":
        raise InputError(f"{args.out}: expected a name that ends in .safetensors")
    from heads.convert.keras_resnet import convert
    from heads.run.checkpoint import save_tensors

    tensors, description = convert(args.file, args.input, args.output)
    save_tensors(args.out, tensors, description)
    backbone = description["trunk"]["name"]
    print(f"{args.out}: {backbone}, {len(tensors)} tensors, {description['outputs']} outputs")
    print(f"use it with --set backbone.weights={args.out}; pixels are scaled as for {args.input}")


if __name__ == "__main__":
    run_script(main)
