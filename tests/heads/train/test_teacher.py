"""A head learns from other heads or a file: who is asked about whom, what is read, and what a training makes of it."""

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from data.annotations.table import read_table
from data.dataset import ImageDataset
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.load import build_head, load_head
from heads.objective.targets import Target
from heads.run.checkpoint import load_tensors
from heads.run.folder import RunFolder, run_folder, save_head
from heads.run.leakage import TrainingPeople, find_training_people, hash_person
from heads.train.loop import predict
from heads.train.recorder import RunRecorder
from heads.train.split import load_split
from heads.train.teacher import ask_heads, average_person, find_teacher_heads, read_embeddings, read_teacher
from train_task import train

pytestmark = pytest.mark.usefixtures("accelerate_anew", "tiny_backbone")
COLOURS = Target("colour", ("red", "green", "blue"))
AGE = Target("age", ("young", "old"), (2.0,), (0, 3))
DISTILLATION = "loss.terms=[{name: focal}, {name: distillation, factor: 2, temperature: 3}]"
STEPS = ["pixels.train=[{resize: {height: 32, width: 32}}, hflip]", "training.batch_size=5"]


@pytest.fixture
def save(colour_config: Callable, tmp_path: Path) -> Callable[..., Path]:
    """Save a random head that was trained on some people: save("heads/colour", people, seed)."""

    def save_random(name: str, people: Sequence[str] | None, seed: int, **sections: Any) -> Path:
        config, run = colour_config(**sections), RunFolder(tmp_path / name)
        torch.manual_seed(seed)
        head = build_head(config).eval()
        trained = None if people is None else TrainingPeople().after_training(people).to_json()
        save_head(run.best, head, config.model_dump(), {}, people=trained)
        return run.best

    return save_random


@pytest.fixture
def folds(save: Callable, squares: Any) -> Path:
    """Three heads, each of which was not trained on every third person."""
    return save_folds(save, squares)


def save_folds(save: Callable, squares: Any, **sections: Any) -> Path:
    for fold in range(3):
        people = [person for person in squares.persons if int(person) % 3 != fold]
        best = save(f"teachers/colour/fold-{fold}", people, fold, views={"steps": ["hflip"]}, **sections)
    return best.parents[1]


@pytest.fixture
def partly(squares: Any, tmp_path: Path) -> Path:
    """The squares with a column of numbers, each label missing on some images."""
    table = pd.read_csv(squares.folder / "labels.csv", dtype=str).assign(age=["1", "3"] * 12)
    table.loc[[0, 2, 5], ["colour", "age"]] = None
    (tmp_path / "partly").mkdir()
    (tmp_path / "partly" / "images").symlink_to(squares.folder / "images")
    table.to_csv(tmp_path / "partly" / "labels.csv", index=False)
    return tmp_path / "partly"


@pytest.fixture
def run(squares: Any, colour_config: Callable, tmp_path: Path) -> Callable[..., RunFolder]:
    """Train a head for the colours of squares, or for another label, 2 epochs, in a folder of the given name."""

    def train_into(name: str, *settings: str, label: dict[str, Any] | None = None, **options: Any) -> RunFolder:
        config = colour_config(training={"epochs": 2}, **({} if label is None else {"label": label}))
        (tmp_path / "colour.yaml").write_text(config.to_yaml(), encoding="utf-8")
        values = {"task": "colour", "config": tmp_path / "colour.yaml", "data": [squares.folder], "fold": None}
        values |= {"runs": tmp_path / name, "cache": None, "cache_limit": 10**8, "resume": False, "boxes": None}
        values |= {"box_margin": 1.0, "on_bad_image": "stop", "set": [*STEPS, *settings]} | options
        train(Namespace(**values))
        return run_folder(tmp_path / name, "colour")

    return train_into


def weights(run: RunFolder) -> bytes:
    return b"".join(tensor.numpy().tobytes() for _, tensor in sorted(load_tensors(run.last)[0].items()))


def ask(files: Sequence[Path], rows: pd.DataFrame, store: Path, allow: bool = False, target: Target = COLOURS) -> Any:
    return ask_heads(files, rows, target, store, allow, None, 0, Accelerator(cpu=True))


def test_a_person_is_taught_by_the_mean_of_the_views_of_heads_that_do_not_know_them(
    folds: Path, save: Callable, squares: Any, tmp_path: Path
) -> None:
    rows = read_table([squares.folder])
    unknown = save("old", None, 9)  # of version 0.1: nobody knows whom it was trained on
    files = find_teacher_heads([str(folds), str(unknown)], tmp_path)
    assert files == [*(folds / f"fold-{fold}" / "best.safetensors" for fold in range(3)), unknown]
    teacher = ask(files, rows, tmp_path / "teacher.npz")
    assert teacher.people.hashes == set(map(hash_person, squares.persons))
    assert teacher.people.unknown == ()
    images = ImageDataset(rows["path"], [Pipeline([{"resize": {"height": 32, "width": 32}}])])
    pixels = torch.stack([images[(0, row, 0)].pixels[0] for row in range(len(rows))])
    views = [
        np.mean([predict(head.head, COLOURS, [view]).probabilities for view in (pixels, pixels.flip(-1))], axis=0)
        for head in map(load_head, files[:3])
    ]
    own = [views[int(person) % 3][row] for row, person in enumerate(rows["person"])]
    np.testing.assert_allclose(teacher.answers, own, atol=1e-6)
    everybody = ask(files[:3], rows, tmp_path / "teacher.npz", allow=True)
    np.testing.assert_allclose(everybody.answers, np.mean(views, axis=0), atol=1e-6)
    alone = ask(files[:1], rows, tmp_path / "teacher.npz")
    assert np.isnan(alone.answers).all(axis=1).tolist() == [int(person) % 3 != 0 for person in rows["person"]]


def test_the_answers_are_computed_once_and_their_file_is_a_teacher(
    folds: Path, squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, store = read_table([squares.folder]), tmp_path / "teacher.npz"
    files = find_teacher_heads(["run:colour"], folds.parent)[:2]
    first = ask(files, rows, store)
    read = read_teacher(store, rows[::-1], COLOURS, np.ones(len(rows), bool))
    assert read.people == first.people != TrainingPeople()
    np.testing.assert_array_equal(read.answers[::-1], first.answers)
    monkeypatch.setattr("heads.train.teacher._predict", None)
    np.testing.assert_array_equal(ask(files, rows, store).answers, first.answers)
    for changed in (files[:1], files[::-1]):
        with pytest.raises(TypeError):  # other heads are asked
            ask(changed, rows, store)
    boxes = tmp_path / "boxes.csv"
    boxes.touch()
    with pytest.raises(TypeError):  # of faces cut out anew
        ask_heads(files, rows, COLOURS, store, False, boxes, 0, Accelerator(cpu=True))


def test_a_teacher_of_the_same_numbers_gives_their_distribution_and_any_other_its_classes(
    save: Callable, squares: Any, tmp_path: Path
) -> None:
    rows, years = read_table([squares.folder]), {"low": 0, "high": 3, "sigma": 1}
    label = {"column": "age", "classes": ["young", "old"], "borders": [2]}
    same = save("same", [], 0, label={**label, "distribution": years})
    other = save("other", [], 1, label={**label, "distribution": {**years, "high": 5}})
    turned = save("turned", [], 2, label={"column": "b", "classes": ["blue", "red", "green"]})
    numbers = ask([same], rows, tmp_path / "1.npz", target=AGE)
    assert (numbers.names, numbers.answers.shape) == (["0", "1", "2", "3"], (24, 4))
    classes = ask([same, other], rows, tmp_path / "2.npz", target=AGE)
    assert classes.names == ["young", "old"]
    one, two = (ask([file], rows, tmp_path / f"{file.parent.name}.npz", target=AGE) for file in (same, other))
    summed = np.stack([one.answers[:, :2].sum(axis=1), one.answers[:, 2:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(classes.answers, (summed + two.answers) / 2, atol=1e-6)
    own = ask([turned], rows, tmp_path / "3.npz", target=Target("b", ("blue", "red", "green"))).answers
    np.testing.assert_array_equal(ask([turned], rows, tmp_path / "4.npz").answers, own[:, [1, 2, 0]])
    with pytest.raises(InputError, match=r"found the classes young, old with the borders \(2\.0,\), expected red"):
        ask([same], rows, tmp_path / "5.npz")
    with pytest.raises(InputError, match=r"heads are missing.*\n  run:none: found no best\.safetensors"):
        find_teacher_heads(["run:none"], tmp_path)


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    paths = [f"{tmp_path}/a/images/{name}.png" for name in range(4)]
    return pd.DataFrame({"path": paths, "source": f"{tmp_path}/a", "person": ["p", "p", "q", "q"]})


PROBABILITIES = np.array([[0.1, 0.7, 0.2], [1 / 3] * 3, [1.0, 0.0, 0.0], [np.nan] * 3], np.float32)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("prefix", ["", "images/", "{folder}/a/images/"])
def test_a_file_is_read_exactly_whatever_its_order_and_format(
    kind: str, prefix: str, rows: pd.DataFrame, tmp_path: Path
) -> None:
    paths = [f"{prefix.format(folder=tmp_path)}{name}.png" for name in (2, 3, 0, 1, "more")]
    table, file = PROBABILITIES[[2, 3, 0, 1, 0]][:, [2, 0, 1]], tmp_path / f"teacher.{kind}"
    names, people = ["blue", "red", "green"], TrainingPeople(unknown=(file.name,))
    if kind == "npz":
        write_arrays(file, {"path": paths, "classes": names, "probabilities": table})
    else:
        frame = pd.DataFrame(table, columns=names).add_prefix("probability_" if kind == "csv" else "")
        frame = frame.assign(path=paths, person="p")
        if kind == "parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(file)
        else:
            frame.to_csv(file, index=False)
    found = read_teacher(file, rows, COLOURS, np.ones(4, bool))
    np.testing.assert_array_equal(found.answers, PROBABILITIES)
    assert (found.names, found.people) == (["red", "green", "blue"], people)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,red,green\n0.png,0.5,0.5\n", "lacks blue, expected red, green, blue"),
        ("path,red,green,blu,blue\n0.png,1,0,0,0\n", "found blu, did you mean blue?, expected red, green, blue"),
        ("image,red,green,blue\n0.png,1,0,0\n", "expected a .csv or .parquet file with path"),
        ("path,red,green,blue\n0.png,0.5,0.6,0\n", "0.png: found [0.5, 0.6"),
        ("path,red,green,blue\n0.png,2,-1,0\n", "0.png: found [2.0, -1.0, 0.0]"),
        ("path,red,green,blue\n0.png,1,,\n", "0.png: found [1.0, nan, nan]"),
        ("path,red,green,blue\n0.png,a,b,c\n", "0.png: found [nan, nan, nan]"),
        ("path,red,green,blue\n0.png,1,0,0\n1.png,1,0,0\n3.png,1,0,0\n", "images/2.png"),
        ("path,red,green,blue\n0.png,1,0,0\n0.png,1,0,0\n", "paths are of several images"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(text: str, message: str, rows: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "teacher.csv").write_text(text)
    required = np.array([True, True, True, False])  # the last has no label
    with pytest.raises(InputError, match=re.escape(message)):
        read_teacher(tmp_path / "teacher.csv", rows, COLOURS, required)


def test_one_name_in_two_data_folders_is_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "teacher.csv").write_text("path,red,green,blue\n0.png,1,0,0\n")
    both = pd.concat([rows[:1], rows[:1].replace(f"{tmp_path}/a", f"{tmp_path}/b", regex=True)])
    with pytest.raises(InputError, match=r"paths are of several images; write them in full\n  0\.png"):
        read_teacher(tmp_path / "teacher.csv", both, COLOURS, np.ones(2, bool))


def test_numbers_in_a_file_are_those_of_the_outputs(rows: pd.DataFrame, tmp_path: Path) -> None:
    for columns, expected in (("2,0,3,1", ["0", "1", "2", "3"]), ("old,young", ["young", "old"])):
        count = len(expected)
        (tmp_path / "teacher.csv").write_text(f"path,{columns}\n0.png,1{',0' * (count - 1)}\n")
        found = read_teacher(tmp_path / "teacher.csv", rows[:1], AGE, np.ones(1, bool))
        assert (found.names, found.answers[0].argmax()) == (expected, expected.index(columns.split(",")[0]))


def test_another_image_of_the_person_answers_for_all_of_theirs(rows: pd.DataFrame) -> None:
    rows = pd.concat([rows, rows[:2].assign(person="r")]).assign(mask=["wear", "normal", *["normal"] * 2, "wear", None])
    probabilities = np.concatenate([PROBABILITIES, PROBABILITIES[:2]])
    found = average_person(probabilities, rows, "mask", "normal")
    np.testing.assert_array_equal(found, np.concatenate([PROBABILITIES[[1, 1, 2, 2]], PROBABILITIES[:2]]))
    assert average_person(probabilities[:2], rows[:2].assign(mask="a"), "mask", "a").tolist() == [
        pytest.approx(PROBABILITIES[:2].mean(axis=0)) for _ in range(2)
    ]
    with pytest.raises(InputError, match="no training image has mask='bare'"):
        average_person(probabilities, rows, "mask", "bare")


def test_unlabelled_images_of_training_people_are_taught(partly: Path) -> None:
    label = load_split([partly], COLOURS, 3, 0, {}, 0)
    split = load_split([partly], COLOURS, 3, 0, {}, 0, unlabelled=True)
    known = set(split.train["path"]) - set(label.train["path"])
    assert known == set(split.images["path"][(split.images["fold"] != 0) & split.images["colour"].isna()])
    count, more = len(label.train), len(known)
    assert more >= 2
    probabilities = np.tile(np.float32([0.2, 0.1, 0.7]), (count + more, 1))
    probabilities[[1, -1]] = np.nan
    taught = split.add_teacher(["green", "red", "blue"], probabilities)
    assert len(taught.train) == len(taught.labels) == len(taught.targets) == count + more - 1
    assert taught.labels[:count].tolist() == label.labels.tolist()
    assert set(taught.labels[count:].tolist()) == {2}
    assert (taught.counts == label.counts).all()
    assert re.match(rf"{count + more - 1} images to train \(.*, without a label {more - 1}\)", taught.summary)
    assert torch.equal(taught.targets[:count, :3].argmax(dim=1), label.targets)
    assert taught.targets[count:, :3].sum() == taught.targets[1, 3:].sum() == 0
    assert torch.equal(taught.targets[count:, 3:], torch.tensor([[0.2, 0.1, 0.7]] * (more - 1)))


def test_an_unlabelled_image_has_the_class_of_the_teachers_numbers(partly: Path) -> None:
    split = load_split([partly], AGE, 3, 0, {}, 0, unlabelled=True)
    unlabelled = int((split.labels < 0).sum())
    assert unlabelled
    numbers = np.tile(np.float32([0.1, 0.3, 0.25, 0.35]), (len(split.train), 1))
    taught = split.add_teacher(AGE.names, numbers)
    assert taught.labels[-unlabelled:].tolist() == [1] * unlabelled
    assert taught.targets[-unlabelled:].sum(dim=1).tolist() == pytest.approx([1] * unlabelled)
    assert torch.equal(taught.targets[:-unlabelled, :4], split.targets[:-unlabelled])


YEARS = {"column": "age", "classes": ["young", "old"], "borders": [2]}
YEARS["distribution"] = {"low": 0, "high": 3, "sigma": 1}


@pytest.mark.parametrize("label", [None, YEARS], ids=["classes", "distribution"])
def test_training_with_a_teacher(
    label: dict[str, Any] | None,
    run: Callable,
    save: Callable,
    squares: Any,
    partly: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    column, value = ("colour", "green") if label is None else ("age", "2")
    (tmp_path / "fixes.csv").write_text(f"person,photograph,column,value\n1,1_1.png,{column},{value}\n")
    options = {"data": [partly], "label": label}
    sections = {} if label is None else {"label": label}
    folds = save_folds(save, squares, **sections)
    distilled = DISTILLATION, f"corrections={tmp_path / 'fixes.csv'}"

    plain = run("plain", distilled[1], **options)
    everybody = save("everybody", squares.persons, 5, **sections)
    images = int(re.search(r"colour: (\d+) images to train", capsys.readouterr().out)[1])
    with pytest.raises(InputError, match="no training image has one, expected heads that were not trained on these"):
        run("nobody", *distilled, f"teacher.runs=[{everybody}]", **options)
    off = run("off", distilled[1], distilled[0].replace("factor: 2", "factor: 0"), f"teacher.runs=[{folds}]", **options)
    assert weights(off) == weights(plain)
    assert not off.teacher.exists()
    capsys.readouterr()

    taught = run("taught", *distilled, f"teacher.runs=[{folds}]", **options)
    output, people = capsys.readouterr(), len(set(np.load(taught.validation)["person"]))
    more = int(re.search(r"teacher: (\d+) training images, 0 of them without", output.out)[1]) - images
    assert more > 0
    assert f"without a label {more})" in output.out
    assert f"teacher {folds}: this teacher was trained on {people} people in the head's validation set" in output.err
    assert weights(taught) != weights(plain)
    assert find_training_people(taught.best).hashes == set(map(hash_person, squares.persons))
    by_file = run("by_file", *distilled, f"teacher.file={taught.teacher}", **options)
    assert weights(by_file) == weights(taught)
    assert f"this teacher was trained on {people} people" in capsys.readouterr().err
    assert load_head(by_file.best).config.teacher.file == "teacher.npz"  # folders are not written

    with np.load(taught.teacher) as saved:
        frame = pd.DataFrame(saved["probabilities"], columns=saved["classes"]).assign(path=saved["path"])
    frame.to_csv(tmp_path / "teacher.csv", index=False)
    by_csv = run("by_csv", *distilled, f"teacher.file={tmp_path / 'teacher.csv'}", **options)
    assert weights(by_csv) == weights(taught)
    assert "not known which people this teacher was trained on (teacher.csv)" in capsys.readouterr().err
    assert find_training_people(by_csv.best).unknown == ("teacher.csv",)
    save("teachers/colour/fold-0", [], 7, **sections)
    with pytest.raises(InputError, match=r"images or weights.*\n  heads of teacher\.runs"):
        run("taught", *distilled, f"teacher.runs=[{folds}]", resume=True, **options)


def stop_after_an_epoch(monkeypatch: pytest.MonkeyPatch, run: Callable, *settings: str) -> None:
    """Interrupt a training in the folder "parts"."""
    after_epoch = RunRecorder.after_epoch

    def stop(*arguments: Any) -> None:
        after_epoch(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "after_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            run("parts", *settings)


def test_a_taught_run_resumes_after_its_data_moved(
    run: Callable, folds: Path, squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (DISTILLATION, f"teacher.runs=[{folds}]", "training.mix={p: 0.5}")
    settings += ("teacher.look_at={column: colour, value: red}",)
    whole = run("whole", *settings)
    stop_after_an_epoch(monkeypatch, run, *settings)
    (tmp_path / "moved").symlink_to(squares.folder)
    assert weights(run("parts", *settings, resume=True, data=[tmp_path / "moved"])) == weights(whole)


def embed(folder: Path, file: Path) -> np.ndarray:
    """Write random embeddings [N, 3] of all images of a data folder but the first, and return them."""
    paths = sorted(path.name for path in (folder / "images").iterdir())
    values = np.random.default_rng(0).normal(5, 3, (len(paths) - 1, 3))
    np.savez(file, path=paths[:0:-1], embeddings=values[::-1])
    return values


EMBEDDING = "loss.terms=[{name: focal}, {name: embedding, factor: 2}]"


def test_embeddings_are_read_exactly_and_scaled(squares: Any, tmp_path: Path) -> None:
    file = tmp_path / "embeddings.npz"
    values = embed(squares.folder, file)
    rows = read_table([squares.folder]).sort_values("path")
    teacher = read_embeddings(file, rows)
    assert np.isnan(teacher.answers[0]).all()
    np.testing.assert_allclose(teacher.answers[1:], values, rtol=1e-6)
    assert teacher.people.unknown == ("embeddings.npz",)
    split = load_split([squares.folder], COLOURS, 3, 0, {}, 0)
    taught = split.add_embeddings(read_embeddings(file, split.train).answers)
    added = taught.targets[:, len(COLOURS.classes) :]
    missing = (added == 0).all(dim=1)
    assert missing.tolist() == [path == rows["path"].iloc[0] for path in split.train["path"]]
    torch.testing.assert_close(added[~missing].mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(added[~missing].std(dim=0, correction=0), torch.ones(3))
    constant = np.full((len(split.train), 2), 0.1, dtype=np.float32)
    assert (split.add_embeddings(constant).targets[:, len(COLOURS.classes) :].abs() < 1e-6).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"path": ["1_0.png"]}, r"found \{'path': \[1\]\}, expected an \.npz file with path \[N\] and embeddings"),
        ({"path": ["1_0.png"], "embeddings": np.ones(1)}, r"'embeddings': \[1\]"),
        ({"path": ["1_0.png"], "embeddings": np.ones((2, 3))}, r"'embeddings': \[2, 3\]"),
        ({"path": ["other.png"], "embeddings": np.ones((1, 3))}, "has embeddings of 0 training images"),
        ({"path": ["1_0.png"], "embeddings": [[1, np.inf]]}, r"not finite, .*\n  .*1_0\.png"),
        ({"path": ["1_0.png"], "embeddings": [[1, np.nan]]}, r"not finite, .*\n  .*1_0\.png"),
        ({"path": ["1_0.png"] * 2, "embeddings": np.ones((2, 3))}, "paths are of several images"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    arrays: dict[str, Any], message: str, squares: Any, tmp_path: Path
) -> None:
    np.savez(tmp_path / "embeddings.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_embeddings(tmp_path / "embeddings.npz", read_table([squares.folder]))


def test_a_head_learns_embeddings_in_training_alone(
    run: Callable,
    squares: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "embeddings.npz"
    embed(squares.folder, file)
    settings = EMBEDDING, f"teacher.file={file}", "teacher.look_at={column: colour, value: red}"
    plain, off = run("plain"), run("off", settings[0].replace("factor: 2", "factor: 0"), settings[1])
    assert weights(off) == weights(plain)
    whole = run("whole", *settings)
    assert re.search(r"teacher: \d+ training images, [01] of them without", capsys.readouterr().out)
    assert weights(whole) != weights(plain)
    tensors, own = (load_tensors(each.best)[0] for each in (whole, plain))
    assert tensors.keys() == own.keys()
    assert load_head(whole.best).config.teacher.file == "embeddings.npz"
    stop_after_an_epoch(monkeypatch, run, *settings)
    assert weights(run("parts", *settings, resume=True)) == weights(whole)
