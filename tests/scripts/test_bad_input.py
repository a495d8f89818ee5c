"""Wrong input to the three scripts: one clear message, exit code 2, and every file as it was before."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import pytest
import torch

import combine
import evaluate
import train_task
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.train.rows import split_rows

TASKS = ("mask", "gender", "age")
Asked = tuple[ModuleType, list, list[str]]


class World:
    """A user's folders: six people in data/, eight images in eval/, three runs, yesterday's output."""

    def __init__(self, folder: Path, faces: Path, configs: Path, runs: Path) -> None:
        self.folder = folder
        self.data, self.eval, self.configs = folder / "data", folder / "eval", folder / "configs"
        self.runs, self.out = folder / "runs", folder / "out"
        for person in sorted((faces / "train" / "images").iterdir())[:6]:
            shutil.copytree(person, self.data / "images" / person.name)
        (self.eval / "images").mkdir(parents=True)
        self.ids = [path.name for path in sorted((faces / "eval" / "images").iterdir())[:8]]
        for name in self.ids:
            shutil.copy(faces / "eval" / "images" / name, self.eval / "images")
        self.list_images(self.ids)
        shutil.copytree(configs, self.configs)
        for task in TASKS:
            (self.runs / task).mkdir(parents=True)
            for file in ("best.safetensors", "last.safetensors"):
                (self.runs / task / file).symlink_to(runs / task / file)
            for file in ("config.yaml", "history.csv", "metrics.json", "validation.npz"):
                shutil.copy(runs / task / file, self.runs / task)
        self.out.mkdir()
        for file in ("submission.csv", "probabilities.npz", "metrics.json", "report.html"):
            (self.out / file).write_text("yesterday's\n")

    def list_images(self, ids: list[str]) -> None:
        (self.eval / "info.csv").write_text("ImageID,ans\n" + "".join(f"{name},0\n" for name in ids))

    def edit(self, task: str, old: str, new: str) -> None:
        path = self.configs / f"{task}.yaml"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def write_answers(self, name: str, rows: list[str]) -> Path:
        (self.folder / name).write_text("ImageID,ans\n" + "".join(f"{row}\n" for row in rows))
        return self.folder / name

    def train(self, *more: object, task: str = "mask", data: Path | None = None) -> list:
        named = ["--task", task, "--config", self.configs / f"{task}.yaml"]
        return [*named, "--data", data or self.data, "--runs", self.runs, *more]

    def combine(self, *more: object) -> list:
        given = ["--config", self.configs / "joint.yaml", "--runs", self.runs, "--data", self.eval]
        return [*given, "--out", self.out / "submission.csv", "--workers", 0, *more]

    def vote(self, *files: Path) -> list:
        given = ["--config", self.configs / "joint.yaml", "--out", self.out / "submission.csv"]
        return [*given, "--vote", *files]

    def evaluate(self, submission: Path, answers: Path) -> list:
        given = ["--submission", submission, "--answers", answers, "--out", self.out]
        return [*given, "--config", self.configs / "joint.yaml"]

    def state(self) -> dict[str, object]:
        """Every file's content, a link's target, a folder's presence."""
        return {
            str(path.relative_to(self.folder)): path.readlink()
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else "folder"
            for path in sorted(self.folder.rglob("*"))
        }


@pytest.fixture
def world(faces: Path, configs: Path, runs: Path, tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path / "world", faces, configs, runs)
    shutil.rmtree(tmp_path / "world")


def unknown_key(world: World) -> Asked:
    world.edit("mask", "  clip_norm: ", "  clip_nrm: ")
    return train_task, world.train(), ["mask.yaml:", "training.clip_nrm: unknown key, did you mean clip_norm?"]


def wrong_type(world: World) -> Asked:
    world.edit("mask", "  epochs: 1\n", "  epochs: one\n")
    return train_task, world.train(), ["mask.yaml:", "training.epochs='one'", "valid integer"]


def unknown_view(world: World) -> Asked:
    path = world.configs / "mask.yaml"
    path.write_text(load_config(TaskConfig, path, ["views.steps=[hflop]"]).to_yaml())
    return train_task, world.train(), ["mask.yaml: views.steps: ", "'hflop'", "expected one of identity, hflip"]


def typo_in_set(world: World) -> Asked:
    return (
        train_task,
        world.train("--set", "training.epoch=2"),
        ["--set: training.epoch:", "did you mean epochs?"],
    )


def set_without_value(world: World) -> Asked:
    return (
        train_task,
        world.train("--set", "training.epochs"),
        ["--set training.epochs: expected key.sub=value"],
    )


def another_task(world: World) -> Asked:
    arguments = ["--task", "hat", "--config", world.configs / "mask.yaml", "--data", world.data]
    return train_task, arguments, ["mask.yaml: task is 'mask', expected 'hat'"]


def no_config(world: World) -> Asked:
    return train_task, ["--task", "hat", "--data", world.data], ["hat.yaml: no such file"]


def no_data_folder(world: World) -> Asked:
    nowhere = world.folder / "nowhere"
    return train_task, world.train(data=nowhere), [f"{nowhere}: no such folder"]


def no_data_option(world: World) -> Asked:
    return train_task, ["--task", "mask"], ["--data is missing and SM_CHANNEL_TRAIN is not set"]


def cache_without_a_limit(world: World) -> Asked:
    return (
        train_task,
        world.train("--cache-limit", "inf"),
        ["--cache-limit: inf, expected a number of gigabytes"],
    )


def age_out_of_range(world: World) -> Asked:
    person = sorted((world.data / "images").iterdir())[0]
    person.rename(person.with_name("000001_male_Drawn_300"))
    return train_task, world.train(), ["000001_male_Drawn_300: age='300'", "from 0 to 120"]


def labels(world: World, rows: list[str]) -> Path:
    """A folder with `rows` (after the file name: person, mask) over copies of one image."""
    (world.folder / "csv" / "images").mkdir(parents=True)
    lines = []
    for number, row in enumerate(rows):
        shutil.copy(world.eval / "images" / world.ids[0], world.folder / "csv" / "images" / f"{number}.jpg")
        lines.append(f"{number}.jpg,{row}\n")
    (world.folder / "csv" / "labels.csv").write_text("path,person,mask\n" + "".join(lines))
    return world.folder / "csv"


def label_of_no_class(world: World) -> Asked:
    folder = labels(world, [f"p{number},{'hat' if number == 1 else 'wear'}" for number in range(10)])
    expected = ["1 labels in column 'mask'", "1.jpg: found 'hat', expected one of wear, incorrect, normal"]
    return train_task, world.train(data=folder), expected


def no_labelled_rows(world: World) -> Asked:
    folder = labels(world, [f"p{number},wear" for number in range(10)])
    return (
        train_task,
        world.train(task="gender", data=folder),
        ["no row has a label in column 'gender'", "mask"],
    )


def too_few_people(world: World) -> Asked:
    folder = labels(world, [f"p{number},wear" for number in range(3)])
    return train_task, world.train(data=folder), [f"{folder}: 3 people, expected at least 5"]


def no_pretrained_run(world: World) -> Asked:
    asked = world.train("--set", "backbone.weights=run:age_backbone")
    return train_task, asked, ["run:age_backbone", "best.safetensors is not there", "--task age_backbone"]


def no_weights_file(world: World) -> Asked:
    asked = world.train("--set", "backbone.weights=backbone.safetensors")
    return train_task, asked, ["trunk.safetensors: no such file"]


def corrupt_weights_file(world: World) -> Asked:
    (world.folder / "backbone.pth").write_bytes(b"not weights")
    asked = world.train("--set", f"backbone.weights={world.folder / 'backbone.pth'}")
    return train_task, asked, ["trunk.pth: not readable as tensors"]


def image_that_cannot_be_read(world: World) -> Asked:
    (world.eval / "images" / world.ids[5]).write_bytes(b"no image")
    return combine, world.combine(), [f"{world.ids[5]}: not an image"]


def image_cut_short_with_workers(world: World) -> Asked:
    path = world.eval / "images" / world.ids[5]
    path.write_bytes(path.read_bytes()[:600])
    return (
        combine,
        world.combine("--workers", 2, "--batch-size", 2),
        [f"{world.ids[5]}: the image cannot be decoded"],
    )


def image_above_the_folder(world: World) -> Asked:
    world.list_images([*world.ids, "../info.csv"])
    return combine, world.combine(), ["ImageID='../info.csv'", "expected a path that stays within the folder"]


def absolute_image(world: World) -> Asked:
    world.list_images([str(world.eval / "images" / world.ids[0])])
    return combine, world.combine(), ["absolute path, expected one relative to the folder"]


def image_that_is_not_there(world: World) -> Asked:
    world.list_images([*world.ids, "gone.jpg"])
    return combine, world.combine(), ["ImageID='gone.jpg': no such file", "1 of 9"]


def listing_that_is_not_there(world: World) -> Asked:
    (world.eval / "info.csv").unlink()
    (world.eval / "info.csv").symlink_to(world.eval / "gone.csv")
    return combine, world.combine(), ["info.csv: cannot be read", "ImageID"]


def heads_missing(world: World) -> Asked:
    for task in ("mask", "age"):
        shutil.rmtree(world.runs / task)
    return (
        combine,
        world.combine(),
        ["mask: found no mask/best", "age: found no age/best", "--task age makes it"],
    )


def corrupt_checkpoint(world: World) -> Asked:
    best = world.runs / "gender" / "best.safetensors"
    cut = best.read_bytes()[:100_000]
    best.unlink()
    best.write_bytes(cut)
    return combine, world.combine(), ["gender/best.safetensors: not readable as safetensors"]


def foreign_checkpoint(world: World) -> Asked:
    from safetensors.torch import save_file

    best = world.runs / "gender" / "best.safetensors"
    best.unlink()
    save_file({"weight": torch.zeros(3)}, best)
    return combine, world.combine(), ["gender/best.safetensors: found no description", "train_task.py"]


def checkpoint_with_an_unknown_view(world: World) -> Asked:
    from heads.run.checkpoint import load_tensors, save_tensors

    best = world.runs / "gender" / "best.safetensors"
    tensors, description = load_tensors(best)
    description["config"]["views"]["steps"] = ["hflop"]
    best.unlink()
    save_tensors(best, tensors, description)
    return combine, world.combine(), ["gender/best.safetensors: views.steps: ", "'hflop'"]


def unknown_key_in_joint(world: World) -> Asked:
    (world.configs / "joint.yaml").write_text("task: [mask]\n")
    return combine, world.combine(), ["joint.yaml:1: task: unknown key, did you mean tasks?"]


def out_is_a_folder(world: World) -> Asked:
    return combine, world.combine("--out", world.out), [f"--out {world.out}", "folder", "expected"]


def vote_of_other_images(world: World) -> Asked:
    files = [world.write_answers("a.csv", ["x.jpg,1"]), world.write_answers("b.csv", ["y.jpg,1"])]
    return combine, world.vote(*files), ["do not hold the same images", "x.jpg", "y.jpg"]


def vote_of_one(world: World) -> Asked:
    file = world.write_answers("a.csv", ["x.jpg,1"])
    return combine, world.vote(file), ["1 submission to vote on, expected at least two"]


def answers_of_other_images(world: World) -> Asked:
    files = (
        world.write_answers("a.csv", ["x.jpg,1", "z.jpg,2"]),
        world.write_answers("b.csv", ["y.jpg,1", "z.jpg,2"]),
    )
    return evaluate, world.evaluate(*files), ["a.csv lacks 1 of the 2 images of", "y.jpg", "x.jpg"]


def answer_out_of_range(world: World) -> Asked:
    files = world.write_answers("a.csv", ["x.jpg,18"]), world.write_answers("b.csv", ["x.jpg,1"])
    return evaluate, world.evaluate(*files), ["a.csv", "row 2: ans='18', expected a whole number from 0 to 17"]


def no_submission(world: World) -> Asked:
    files = world.folder / "none.csv", world.write_answers("b.csv", ["x.jpg,1"])
    return evaluate, world.evaluate(*files), ["none.csv: cannot be read"]


CASES = [
    *(unknown_key, wrong_type, unknown_view, typo_in_set, set_without_value, another_task, no_config),
    *(no_data_folder, no_data_option, age_out_of_range, label_of_no_class, no_labelled_rows, too_few_people),
    *(no_pretrained_run, no_weights_file, corrupt_weights_file, cache_without_a_limit),
    *(image_that_cannot_be_read, image_cut_short_with_workers, image_above_the_folder, absolute_image),
    *(
        image_that_is_not_there,
        listing_that_is_not_there,
        heads_missing,
        corrupt_checkpoint,
        foreign_checkpoint,
    ),
    *(
        checkpoint_with_an_unknown_view,
        unknown_key_in_joint,
        out_is_a_folder,
        vote_of_other_images,
        vote_of_one,
    ),
    *(answers_of_other_images, answer_out_of_range, no_submission),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_wrong_input_is_told_once_and_changes_nothing(
    case: Callable[[World], Asked], world: World, call: Callable
) -> None:
    script, arguments, expected = case(world)
    before = world.state()
    outcome = call(script, *arguments)
    assert outcome.code == 2, outcome
    assert outcome.err.count("error:") == 1, outcome.err
    assert "Traceback" not in outcome.err
    for fragment in expected:
        assert fragment in outcome.err
    assert world.state() == before


def to_train_on(world: World) -> Path:
    """An image of the training fold."""
    from heads.build import build_target

    config = load_config(TaskConfig, world.configs / "mask.yaml")
    rows, _ = split_rows(config, [world.data], build_target(config.label))
    return Path(rows["path"].iloc[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_image_that_cannot_be_read_ends_training(workers: int, world: World, call: Callable) -> None:
    broken = to_train_on(world)
    broken.write_bytes(broken.read_bytes()[:600])
    asked = world.train("--set", "sampler.per_person=null", "--set", f"training.workers={workers}")
    outcome = call(train_task, *asked)
    assert outcome.code == 2, outcome
    assert outcome.err.count("error:") == 1
    assert outcome.err.startswith(f"error: {broken}: ")
    assert "Traceback" not in outcome.err


def test_a_image_that_cannot_be_read_leaves_the_run_before_as_it_was(world: World, call: Callable) -> None:
    broken = to_train_on(world)
    broken.write_bytes(b"no image")
    before = world.state()
    assert call(train_task, *world.train("--set", "sampler.per_person=null")).code == 2
    assert world.state() == before


def test_weights_that_cannot_be_downloaded(
    world: World, call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    before = world.state()
    outcome = call(train_task, *world.train("--set", "backbone.weights=imagenet"))
    assert outcome.code == 2
    assert outcome.err.count("error:") == 1
    assert "ImageNet weights of resnet18 cannot be downloaded" in outcome.err
    assert "no network" in outcome.err
    assert "--set backbone.weights=FILE" in outcome.err
    assert world.state() == before
