"""Wrong input to the three scripts: one message, exit code 2, no traceback, and every file as it was before."""

import shlex
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from heads.run.checkpoint import load_tensors, save_tensors

TRAIN = "train_task --task mask --config configs/mask.yaml --data data --runs runs"
LABELS = "train_task --task mask --config configs/mask.yaml --data labels --runs runs"
COMBINE = "combine --runs runs --data eval --out out/submission.csv --workers 0"
EVALUATE = "evaluate --submission a.csv --answers b.csv --out out"
WEIGHTS = "--set backbone.weights="
MASK = "configs/mask.yaml"
RUN_FILES = ("config.yaml", "history.csv", "metrics.json", "validation.npz")
HEAD = Path("runs/gender/best.safetensors")
Change = Callable[[], object] | None


@pytest.fixture
def world(faces: Path, configs: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: six people in data/, ten labelled rows in labels/, three images in eval/, runs, old output."""
    (tmp_path / "world").mkdir()
    monkeypatch.chdir(tmp_path / "world")
    for person in sorted((faces / "train/images").iterdir())[:6]:
        shutil.copytree(person, f"data/images/{person.name}")
    drawn = sorted((faces / "eval/images").iterdir())[0]
    for folder, names in (("labels", range(10)), ("eval", "abc")):
        Path(folder, "images").mkdir(parents=True)
        for name in names:
            shutil.copy(drawn, f"{folder}/images/{name}.jpg")
    write_labels("wear")
    write("eval/info.csv", "ImageID,ans", "a.jpg,0", "b.jpg,0", "c.jpg,0")
    shutil.copytree(configs, "configs")
    for task in ("mask", "gender", "age"):
        Path("runs", task).mkdir(parents=True)
        for file in ("best.safetensors", "last.safetensors"):
            Path("runs", task, file).symlink_to(runs / task / file)
        for file in RUN_FILES:
            shutil.copy(runs / task / file, f"runs/{task}")
    Path("out").mkdir()
    for file in ("submission.csv", "probabilities.npz", "metrics.json", "report.html"):
        write(f"out/{file}", "yesterday's")

    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return tmp_path / "world"


def write(path: str, *lines: str) -> None:
    Path(path).write_text("".join(f"{line}\n" for line in lines))


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert text.count(old) == 1
    Path(path).write_text(text.replace(old, new))


def cut(pattern: str) -> None:
    for path in Path().glob(pattern):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:600])


def write_labels(first: str, people: int = 10) -> None:
    write("labels/labels.csv", "path,person,mask", *(f"{n}.jpg,p{n},{'wear' if n else first}" for n in range(people)))


def write_ids(name: str) -> None:
    write("eval/info.csv", "ImageID", "a.jpg", name)


def replace_listing_by_dead_link() -> None:
    Path("eval/info.csv").unlink()
    Path("eval/info.csv").symlink_to("gone.csv")


def rename_person() -> None:
    person = next(Path("data/images").iterdir())
    person.rename(person.with_name("000001_male_Drawn_300"))


def write_answers(first: list[str], second: list[str]) -> None:
    write("a.csv", "ImageID,ans", *first)
    write("b.csv", "ImageID,ans", *second)


def write_unknown_view_into_head() -> None:
    tensors, description = load_tensors(HEAD)
    description["config"]["views"]["steps"] = ["hflop"]
    HEAD.unlink()
    save_tensors(HEAD, tensors, description)


# Case: command line, what is wrong in the folder (None: the command line is), parts of the message.
CASES: dict[str, tuple[str, Change, str]] = {
    "unknown key": (
        TRAIN,
        lambda: edit(MASK, "clip_norm: ", "clip_nrm: "),
        "mask.yaml: | training.clip_nrm | clip_norm?",
    ),
    "unknown view": (f"{TRAIN} --set views.steps=[hflop]", None, "views.steps | 'hflop' | hflip"),
    "unknown key in --set": (f"{TRAIN} --set training.epoch=2", None, "--set: training.epoch: | epochs?"),
    "another task": (TRAIN.replace("mask ", "hat ", 1), None, "mask.yaml: task is 'mask' | 'hat'"),
    "no data folder": (TRAIN.replace("--data data", "--data nowhere"), None, "nowhere: no such folder"),
    "no --data": ("train_task --task mask", None, "--data | SM_CHANNEL_TRAIN"),
    "cache without a limit": (f"{TRAIN} --cache-limit inf", None, "--cache-limit: inf"),
    "age out of range": (TRAIN, rename_person, "000001_male_Drawn_300: age='300' | from 0 to 120"),
    "label of no class": (LABELS, lambda: write_labels("hat"), "'mask' | 0.jpg: found 'hat' | wear, incorrect, normal"),
    "too few people": (LABELS, lambda: write_labels("wear", 3), "labels: 3 people | at least 5"),
    "no run of the backbone": (f"{TRAIN} {WEIGHTS}run:a", None, "run:a | best.safetensors | --task a"),
    "corrupt weights file": (
        f"{TRAIN} {WEIGHTS}a.pth",
        lambda: write("a.pth", "text"),
        "a.pth: not readable as tensors",
    ),
    "no download": (f"{TRAIN} {WEIGHTS}imagenet", None, f"ImageNet weights of resnet18 | no network | {WEIGHTS}FILE"),
    "images cut short": (TRAIN, lambda: cut("data/images/*/*"), ".jpg: | cannot be decoded"),
    "images cut short, in workers": (
        f"{TRAIN} --set training.workers=2",
        lambda: cut("data/images/*/*"),
        ".jpg: | cannot be decoded",
    ),
    "not an image": (COMBINE, lambda: write("eval/images/c.jpg", "text"), "c.jpg: not an image"),
    "image cut short, in a worker": (
        f"{COMBINE} --workers 2 --batch-size 2",
        lambda: cut("eval/images/c.jpg"),
        "c.jpg: | cannot be decoded",
    ),
    "image above the folder": (COMBINE, lambda: write_ids("../info.csv"), "ImageID='../info.csv' | within the folder"),
    "image that is missing": (COMBINE, lambda: write_ids("gone.jpg"), "ImageID='gone.jpg': no such file | 1 of 2"),
    "listing that is missing": (COMBINE, replace_listing_by_dead_link, "info.csv: cannot be read | ImageID"),
    "heads that are missing": (
        COMBINE,
        lambda: [shutil.rmtree(f"runs/{task}") for task in ("mask", "age")],
        "mask: found no mask/best | age: found no age/best | --task age",
    ),
    "changed checkpoint": (
        COMBINE,
        lambda: write(f"{HEAD.parent}/manifest.json", '{"sha256": {}}'),
        f"{HEAD}: its checksum is not the one in manifest.json",
    ),
    "corrupt checkpoint": (COMBINE, lambda: cut(str(HEAD)), f"{HEAD}: not readable as safetensors"),
    "checkpoint with an unknown view": (COMBINE, write_unknown_view_into_head, f"{HEAD}: views.steps | 'hflop'"),
    "unknown key in joint.yaml": (
        COMBINE,
        lambda: write("runs/joint.yaml", "task: [mask]"),
        "joint.yaml:1: task: unknown key | tasks?",
    ),
    "--out is a folder": (f"{COMBINE} --out out", None, "--out out | folder"),
    "answers of other images": (
        EVALUATE,
        lambda: write_answers(["x.jpg,1", "z.jpg,2"], ["y.jpg,1", "z.jpg,2"]),
        "a.csv | 1 of the 2 images | y.jpg | x.jpg",
    ),
    "answer out of range": (
        EVALUATE,
        lambda: write_answers(["x.jpg,18"], ["x.jpg,1"]),
        "row 2: ans='18' | from 0 to 17",
    ),
}


def state(folder: Path) -> dict[Path, object]:
    """Every file's content, a link's target, a folder's presence."""
    return {
        path: path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_gives_one_message_and_changes_nothing(case: str, world: Path, call: Callable) -> None:
    command, change, expected = CASES[case]
    if change is not None:
        change()
    before = state(world)
    script, *arguments = shlex.split(command)
    outcome = call(import_module(script), *arguments)
    assert outcome.code == 2, outcome
    assert outcome.err.count("error:") == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert [part for part in expected.split(" | ") if part not in outcome.err] == [], outcome.err
    assert state(world) == before
