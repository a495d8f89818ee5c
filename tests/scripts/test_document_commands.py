"""Every command of README.md and docs/*.md is run on tiny data, or is listed here with the reason why it is not."""

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import save_file

from heads.model.head import BACKBONES
from heads.run.jobs import Job
from tests.conftest import Outcome
from tests.heads.conftest import TinyResNet

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
PROGRAMS = "python|python3|make|pip|accelerate|ray|mkdir|cp|sh|bash|git|docker|curl|apt-get"
# The beginning of a command, and why no test runs it here.
NOT_RUN = {
    "make ": "a target of the Makefile, whose commands are these",
    "pip install ": "the environment of the tests is installed already",
    "accelerate launch ": "several processes: tests/scale/test_processes.py",
    "ray job submit ": "a cluster: tests/scale/test_ray.py",
    "python -m bench.": "hours on data that are not part of the repository: tests/bench",
    "python -m data.embeddings ": "dlib is an optional package: tests/data/test_embeddings.py",
    "python -m data.boxes ": "the detector is an optional package: tests/data/boxes/test_boxes.py",
    "python -m heads.convert ": "a file of Keras: tests/heads/convert/test_convert.py",
    "python train_task.py --task age --data path/to/train --set backbone.weights=OUT": "needs that file of Keras",
    "python combine.py --data path/to/eval --boxes ": "all heads with boxes: tests/scripts/test_boxes_option.py",
    "python -m ensemble.export ": "half a minute: tests/ensemble/export",
    "python -m ensemble.web ": "npm and a browser: tests/browser/test_page.py",
    "python -m http.server ": "the same",
    "python -m heads.export ": "half a minute: tests/heads/export/test_export.py",
}


def find_commands(text: str) -> list[str]:
    """Find the commands of a document in order: the lines of fenced blocks that begin with one, and code spans.

    >>> text = "`make a` `x: 1`\\n```\\npython a.py \\\\\\n --x  # y\\n./b\\n```\\n`a.py --y`\\n```\\npath,age\\n```"
    >>> find_commands(text)
    ['make a', 'python a.py --x', './b', 'a.py --y']
    """
    commands: list[str] = []
    for fence, block, span in re.findall(r"^(```[^\n]*\n)(.*?)^```$|`([^`]+)`", text, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines() if fence else [span.replace("\n", " ")]
        lines = [" ".join(re.sub(r"\s#\s.*", "", line).split()) for line in lines]
        is_command = re.match(rf"(\w+=\S* )*({PROGRAMS}|\w+\.py) \S", "".join(lines[:1]))
        commands += filter(None, lines) if is_command else ()
    return commands


def reason_not_to_run(command: str) -> str:
    return next((reason for start, reason in NOT_RUN.items() if command.startswith(start)), "")


@pytest.fixture(scope="module")
def tiny_runs(faces: Path, configs: Path, call: Callable[..., Outcome], build_once: Callable[..., Path]) -> Path:
    """A run of each task with a `TinyResNet`."""

    def train_all(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BACKBONES, "resnet18", TinyResNet)
            for task in ("mask", "gender", "age"):
                options = ["--config", configs, "--data", faces / "train", "--runs", folder]
                outcome = call(import_module("train_task"), "--task", task, *options)
                assert outcome.code == 0, outcome.err

    return build_once("tiny_runs", train_all)


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Commands that an earlier document has and that were run for it."""
    return set()


@pytest.fixture
def place(
    tmp_path: Path,
    faces: Path,
    configs: Path,
    tiny_runs: Path,
    tiny_resnet: None,
    call: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with everything that the documents' commands name; jobs run in this process."""
    shutil.copytree(configs, tmp_path / "configs")
    shutil.copytree(ROOT / "configs/recipes", tmp_path / "configs/recipes")
    shutil.copytree(tiny_runs, tmp_path / "runs")
    (tmp_path / "RUNS").symlink_to("runs")
    (tmp_path / "configs/demo").symlink_to(".")
    (tmp_path / "demo/data").mkdir(parents=True)
    (tmp_path / "demo/runs").symlink_to("../runs")
    (tmp_path / "demo/data/train").symlink_to("../../path/to/train")
    (tmp_path / "demo/data/eval").symlink_to(faces / "eval")
    data = tmp_path / "path/to"
    (data / "faces18").mkdir(parents=True)
    for number, person in enumerate(sorted((faces / "train/images").iterdir())):
        shutil.copytree(person, data / ("train", "portraits")[number % 2] / "images" / person.name)
        for mask, shot in (("wear", "mask1"), ("incorrect", "incorrect_mask"), ("normal", "normal")):
            (data / "masks" / mask).mkdir(parents=True, exist_ok=True)
            shutil.copy(person / f"{shot}.jpg", data / "masks" / mask / f"{number}.jpg")
    shutil.copytree(data / "masks", data / "folder")
    files = sorted(path.relative_to(data / "masks") for path in data.glob("masks/*/*.jpg"))
    (data / "masks/labels.csv").write_text("".join(["path,mask\n", *(f"{file},{file.parent}\n" for file in files)]))
    boxes = [f"path/to/images/{file},8,8,40,56,1,0.5\n" for file in files]
    (tmp_path / "boxes.csv").write_text("".join(["path,x0,y0,x1,y1,score,threshold\n", *boxes]))
    for name, target in (
        *(("images", "masks"), ("faces_mask", "masks"), ("faces_age", "portraits"), ("faces18/train", "../train")),
        *((name, faces / "eval") for name in ("eval", "faces18/eval")),
        *(("answers.csv", faces / "eval/answers.csv"), ("../../portraits", "path/to/portraits")),
        *((f"../../{name}.csv", faces / "eval/info.csv") for name in ("a", "b")),
    ):
        (data / name).symlink_to(target)
    (tmp_path / "demo/photo.jpg").symlink_to("../photo.jpg")
    (tmp_path / "photo.jpg").symlink_to(data / "masks" / files[0])
    save_file(TinyResNet().state_dict(), tmp_path / "resnet18.safetensors")

    def run_jobs(jobs: Sequence[Job], *_: object) -> dict[str, int]:
        return {job.name: run(shlex.join(["python", *job.command[1:]]), call) for job in jobs}

    monkeypatch.setattr("heads.run.jobs.run_jobs", run_jobs)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_resnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "resnet18", TinyResNet)


def run(command: str, call: Callable[..., Outcome]) -> int:
    """Run `python FILE.py ...` or `python -m MODULE ...` in this process."""
    _, *arguments = shlex.split(command)
    name = arguments.pop(1) if arguments[0] == "-m" else Path(arguments[0]).stem
    package = find_spec(name)
    assert package is not None, command
    module = import_module(f"{name}.__main__" if package.submodule_search_locations else name)
    outcome = call(module, *arguments[1:])
    assert outcome.code == 0, f"{command}\n{outcome.err}"
    return outcome.code


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_runs_or_is_listed(
    document: str, place: Path, done: set[str], call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in find_commands((ROOT / document).read_text(encoding="utf-8")):
        while variable := re.match(r"(\w+)=(\S*) ", command):
            monkeypatch.setenv(*variable.groups())
            command = command[variable.end() :]
        words = command.split()
        if words[0] == "make":
            named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            assert set(named[:1]) <= set(targets), command
        elif words[0].endswith(".py"):  # options of a script
            options = call(import_module(Path(words[0]).stem), "--help").out
            assert set(re.findall(r"--[a-z-]+", command)) <= set(re.findall(r"--[a-z-]+", options)), command
        elif len(words) == 3 and words[1] == "-m":  # the name of a command
            assert find_spec(words[2]) is not None, command
        elif command not in done and not reason_not_to_run(command):
            done.add(command)
            assert words[0] == "python", f"{document}: {command}: run it here or add it to NOT_RUN with the reason"
            run(command, call)


def test_the_python_of_the_readme_predicts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(block, {})
    assert "mask" in capsys.readouterr().out
