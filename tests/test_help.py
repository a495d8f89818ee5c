"""--help answers at once: what takes seconds to import is imported after parsing, as it is by `import`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ("train_task", "combine", "evaluate")
HEAVY = (
    *("torch", "torchvision", "accelerate", "pandas", "albumentations", "cv2", "scipy", "sklearn"),
    *(
        "matplotlib",
        "pydantic",
        "safetensors",
        "tensorboard",
        "tqdm",
        "openvino",
        "onnxruntime",
        "ray",
        "pyarrow",
    ),
)
IMPORTED = f"import sys; print(sorted(set({HEAVY}) & set(sys.modules)))"
HELP = """
import runpy, sys
sys.argv[1:] = ["--help"]
try:
    runpy.run_path("{script}.py", run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_neither_help_nor_an_import_of_a_script_imports_what_is_slow(script: str) -> None:
    for program in (HELP.format(script=script), f"import {script}"):
        done = subprocess.run(
            [sys.executable, "-c", f"{program}\n{IMPORTED}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]"
