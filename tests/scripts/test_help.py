"""--help answers at once: what takes seconds to import is imported after parsing, as it is by `import`.

And it tells of --debug wherever a fault's message asks for it.
"""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
# Whatever ends by `run_script`, found in the sources so that a new one is looked at too.
PLACES = ("*.py", "data/**/*.py", "heads/**/*.py", "ensemble/**/*.py", "bench/**/*.py")
RUNS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for place in PLACES
    for path in ROOT.glob(place)
    if "\n    run_script(main)\n" in path.read_text(encoding="utf-8")
)
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
        assert done.stdout.startswith(("usage: ", "[]"))


def test_the_scripts_are_among_what_the_sources_tell() -> None:
    assert {*SCRIPTS, "data.masked", "ensemble.export", "bench.speed.__main__"} <= set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_whatever_asks_for_debug_in_its_message_has_the_option(name: str, call: Callable) -> None:
    outcome = call(import_module(name), "--help")
    assert outcome.code == 0
    assert "--debug" in outcome.out
