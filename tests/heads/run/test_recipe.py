"""A recipe is planned as jobs; what is done is not done again, unless something that it was made from has changed."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

import train_task
from data.runtime.errors import InputError
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.recipe import load_recipe, plan_recipe, run_recipe

ROOT = Path(__file__).parents[3]
RECIPE = """heads:
  age_backbone: {data: [$DATA]}
  age: {data: [$DATA], set: ["backbone.weights=run:age_backbone"]}
  mask: {data: [$DATA, $MORE], after: [age_backbone]}
"""
# In place of train_task.py: notes its arguments and writes a run's files; fails for the task named in the file `fail`.
PROGRAM = """
import json, pathlib, sys
place, options = pathlib.Path(__file__).parent, sys.argv[1:]
task = options[options.index("--task") + 1]
with (place / "log").open("a") as file:
    file.write(" ".join([task, *(["--resume"] if "--resume" in options else [])]) + "\\n")
run = place / "runs" / task
if (place / "fail").exists() and (place / "fail").read_text() == task:
    sys.exit(1)
run.mkdir(parents=True, exist_ok=True)
for name in ("best.safetensors", "last.safetensors"):
    (run / name).write_text(json.dumps(options))
"""


@pytest.fixture
def place(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe, two data folders and the program."""
    for name, person in (("data", "ann"), ("more", "bob")):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "images" / f"{person}.jpg").touch()
        (tmp_path / name / "labels.csv").write_text(f"path,person,mask,age\n{person}.jpg,{person},wear,30\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "program.py").write_text(PROGRAM)
    for name in ("data", "more"):
        monkeypatch.setenv(name.upper(), f"{tmp_path}/{name}")
    return tmp_path


@pytest.fixture
def train(place: Path, configs: Path) -> Callable[..., tuple[int, list[str]]]:
    """Run the recipe with more options; return the exit code and what was trained, sorted."""

    def run(*more: str) -> tuple[int, list[str]]:
        arguments = ["--recipe", f"{place}/recipe.yaml", "--config", str(configs), "--runs", f"{place}/runs", *more]
        with patch.object(sys, "argv", ["train_task.py", *arguments]):
            args = train_task.parse()
        (place / "log").write_text("")
        code = run_recipe(args, [sys.executable, f"{place}/program.py"], arguments)
        return code, sorted((place / "log").read_text().splitlines())

    return run


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "data: [$DATA]}\n  age:",
            "dta: [$DATA]}\n  age:",
            ":2: heads.age_backbone.dta: unknown key, did you mean data?",
        ),
        ("$MORE", "$DTA", ":4: $DTA: DTA is not set; write DTA=... before the command"),
        ("$MORE", "50 $", ":4: 50 $: expected $NAME or ${NAME} after $, or $$ for a dollar sign"),
        (
            "after: [age_backbone]",
            "after: [age_bckbone]",
            ":4: heads.mask.after: found 'age_bckbone', expected another head",
        ),
        ("after: [age_backbone]", "after: [mask]", ":4: heads.mask.after: found 'mask', expected another head"),
        ("heads:", "folds: [-1]\nheads:", ":1: folds.0=-1"),
        (RECIPE, "$text", ": found a str, expected keys with values"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_line(place: Path, old: str, new: str, expected: str) -> None:
    (place / "recipe.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(InputError) as refusal:
        load_recipe(place / "recipe.yaml", {"DATA": "data", "MORE": "more"})
    assert f"{place}/recipe.yaml{expected}" in str(refusal.value)


@pytest.mark.parametrize(
    ("recipe", "before", "pixels"),
    [
        ("faces", {"data.masked", "data.embeddings"}, ["aligned_crop", {"letterbox": {"height": 144, "width": 144}}]),
        ("quick", {"data.masked"}, [{"letterbox": {"height": 168, "width": 126}}]),
    ],
)
def test_the_shipped_recipes_are_planned_as_commands_of_the_script(
    recipe: str, before: set[str], pixels: list[object], tmp_path: Path
) -> None:
    file = ROOT / f"configs/recipes/{recipe}.yaml"
    arguments = ["--recipe", f"{file}", "--runs", f"{tmp_path}", "--fold", "0", "1", "--set", "training.seed=3"]
    with patch.object(sys, "argv", ["train_task.py", *arguments]):
        args = train_task.parse()
    names = {name: name.lower() for name in ("DATA", "PORTRAITS", "MASKS", "WEIGHTS", "RUNS")}
    jobs = plan_recipe(load_recipe(file, names), args, ["python", "train_task.py"], arguments[2:])
    after = {job.name: set(job.after) for job in jobs}
    assert {name for name in after if name.startswith("data.")} == before
    backbones = {f"{head}/fold-{fold}": {f"age_backbone/fold-{fold}"} for head in ("age", "gender") for fold in (0, 1)}
    assert after == {name: set() if name in before else {*backbones.get(name, ()), *before} for name in after}
    children = {}
    for name in ("mask", "age"):
        [job] = [job for job in jobs if job.name == f"{name}/fold-1"]
        with patch.object(sys, "argv", job.command[1:]):
            children[name] = train_task.parse()
    assert (children["mask"].task, children["mask"].fold, children["mask"].recipe) == (["mask"], [1], None)
    assert children["mask"].data == [Path("data/train"), Path("masks"), Path("runs/masked")]
    assert children["mask"].set == ["backbone.weights=weights", "training.seed=3"]
    settings = [text for text in children["age"].set if not text.startswith("backbone")]
    assert load_config(TaskConfig, ROOT / "configs/age.yaml", settings).pixels.evaluate == pixels
    (tmp_path / "age/fold-2").mkdir(parents=True)
    with pytest.raises(InputError, match="found folds beside those of this recipe"):
        plan_recipe(load_recipe(file, names), args, ["python"], [])


def test_only_what_is_not_done_or_has_changed_is_trained(
    place: Path,
    train: Callable[..., tuple[int, list[str]]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place / "fail").write_text("age")
    assert train() == (1, ["age", "age_backbone", "mask"])
    (place / "fail").unlink()
    assert train() == (0, ["age --resume"])
    assert train("--set", "training.workers=7", "--set", "training.trackers=[]") == (0, [])
    assert "mask: found done (" in capfd.readouterr().out

    (place / "more/labels.csv").write_text("path,person,mask,age\nbob.jpg,bob,normal,30\n")
    assert train() == (0, ["mask"])
    assert "mask: done again; changed since: data\n" in capfd.readouterr().out
    for change in (Path.unlink, lambda head: head.write_text("of another training")):
        change(place / "runs/mask/best.safetensors")
        assert train() == (0, ["mask"])
    text = RECIPE.replace("age_backbone: {", "age_backbone: {set: [training.seed=5], ")
    (place / "recipe.yaml").write_text(text)
    assert train() == (0, ["age", "age_backbone"])
    assert "age: done again; changed since: backbone.weights\n" in capfd.readouterr().out
    (place / "elsewhere").mkdir()
    shutil.move(place / "data", place / "elsewhere")
    monkeypatch.setenv("DATA", f"{place}/elsewhere/data")
    assert train() == (0, [])

    corrections = place / "corrections.csv"
    for value in ("wear", "normal"):
        corrections.write_text(f"person,column,value\nbob,mask,{value}\n")
        assert train("--set", f"corrections={corrections}")[1] == ["age", "age_backbone", "mask"]
    corrections = corrections.rename(place / "moved.csv")
    assert train("--set", f"corrections={corrections}") == (0, [])


def test_a_stopped_training_of_another_recipe_is_not_continued(
    place: Path, train: Callable[..., tuple[int, list[str]]]
) -> None:
    assert train() == (0, ["age", "age_backbone", "mask"])
    (place / "fail").write_text("mask")
    assert train("--set", "training.seed=1") == (1, ["age", "age_backbone", "mask"])
    assert not (place / "runs/mask/last.safetensors").exists()
    assert train("--set", "training.seed=1") == (1, ["mask --resume"])
    assert train("--set", "training.seed=2") == (1, ["age", "age_backbone", "mask"])


def test_a_head_is_trained_after_all_folds_of_its_teacher_and_again_when_they_change(
    place: Path, train: Callable[..., tuple[int, list[str]]]
) -> None:
    taught = "loss.terms=[{name: focal}, {name: distillation}]"
    recipe = f"""heads:
  gender: {{data: [$DATA], set: ["{taught}", "teacher.runs=[run:mask]"]}}
  mask: {{data: [$DATA]}}
folds: [0, 1]
"""
    (place / "recipe.yaml").write_text(recipe)
    program = (place / "program.py").read_text().replace("/ task\nif", '/ task / f"fold-{options[-1]}"\nif')
    (place / "program.py").write_text(program)
    assert train() == (0, ["gender", "gender", "mask", "mask"])
    assert (place / "log").read_text().splitlines()[2:] == ["gender", "gender"]
    assert train() == (0, [])
    (place / "recipe.yaml").write_text(recipe.replace("mask: {data", "mask: {set: [training.seed=1], data"))
    assert train() == (0, ["gender", "gender", "mask", "mask"])


def test_changed_steps_reach_the_training_and_an_unknown_one_is_refused(
    place: Path, train: Callable[..., tuple[int, list[str]]]
) -> None:
    recipe = "heads: {mask: {data: [$DATA], steps: {letterbox: [{resize: {height: 32, width: 24}}]}}}\n"
    (place / "recipe.yaml").write_text(recipe)
    assert train() == (0, ["mask"])
    options = json.loads((place / "runs/mask/best.safetensors").read_text())
    assert '--set=pixels.evaluate=[{"resize": {"height": 32, "width": 24}}]' in options
    (place / "recipe.yaml").write_text(recipe.replace("32", "40"))
    assert train() == (0, ["mask"])
    (place / "recipe.yaml").write_text(recipe.replace("letterbox", "leterbox"))
    with pytest.raises(InputError, match=r"heads.mask.steps: unknown steps\n +leterbox: expected one of"):
        train()


@pytest.mark.parametrize(
    ("section", "result", "change", "again", "moved"),
    [
        (
            "masked: {data: [$FACES], out: $RUNS/masked, per_face: 1, wrong: 0.5}",
            "masked/labels.csv",
            ("0.5", "0.4"),
            ["not an empty folder"],  # what is there is not overwritten
            [],
        ),
        (
            "embeddings: {data: [$FACES], out: $RUNS/faces.npz, where: mask=normal}",
            "faces.npz",
            ("normal", "wear"),
            ["changed since: where"],
            ["changed since: folders"],  # it holds absolute paths
        ),
    ],
)
def test_data_are_written_once_and_before_any_training(
    section: str,
    result: str,
    change: tuple[str, str],
    again: list[str],
    moved: list[str],
    place: Path,
    faces: Path,
    train: Callable[..., tuple[int, list[str]]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reports() -> list[str]:
        output = capfd.readouterr()
        every = ["not an empty folder", "changed since: where", "changed since: folders"]
        return [text for text in every if text in output.out + output.err]

    monkeypatch.setenv("FACES", str(shutil.copytree(faces / "train", place / "faces")))
    recipe = f"{section}\nheads: {{mask: {{data: [$DATA]}}}}\n"
    (place / "recipe.yaml").write_text(recipe)
    assert train() == (0, ["mask"])
    assert (place / "runs" / result).exists()
    assert (train(), reports()) == ((0, []), [])
    monkeypatch.setenv("FACES", str((place / "faces").rename(place / "moved")))
    assert (train(), reports()) == ((0, []), moved)
    (place / "recipe.yaml").write_text(recipe.replace(*change))
    assert (train(), reports()) == ((2 if "masked" in section else 0, []), again)
