"""--help answers at once, since slow imports wait until after parsing, and every command has --debug."""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("train_task", "combine", "evaluate")
SLOW = (
    "torch torchvision accelerate pandas albumentations cv2 scipy sklearn matplotlib pydantic safetensors "
    "tensorboard tqdm openvino onnxruntime ray pyarrow"
)
# The commands, found in the sources, so that a new one is tested too.
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for place in ("*.py", "data/**/*.py", "heads/**/*.py", "ensemble/**/*.py", "bench/**/*.py")
    for path in ROOT.glob(place)
    if "\n    run_script(main)\n" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("command", [*SCRIPTS, *(name for name in COMMANDS if name not in SCRIPTS)])
def test_help_imports_nothing_slow_and_no_other_script(command: str) -> None:
    others = " ".join(name for name in SCRIPTS if name != command)
    program = f"""import sys, {command} as command
sys.argv[1:] = ["--help"]
try:
    command.main()
finally:
    print(sorted(set("{SLOW} {others}".split()) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", [*SCRIPTS, *(name for name in COMMANDS if name not in SCRIPTS)])
def test_every_command_has_the_option_debug(name: str, call: Callable) -> None:
    outcome = call(import_module(name), "--help")
    assert outcome.code == 0
    assert "--debug" in outcome.out
