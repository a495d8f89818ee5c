"""Nobody is ever in two folds, nobody's fold changes, and every backbone trained on a validation person is reported.

A person is known by the text in their image files, which only this test writes and reads.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from data.annotations.corrections import person_in_source
from data.annotations.table import read_table
from data.masked import bare_faces, label_masked
from data.runtime.arrays import write_arrays
from heads.build import build_split, find_leakage, load_task_config, store_split
from heads.run.checkpoint import save_tensors
from heads.run.folder import RunFolder, folds_file, run_folder
from heads.run.leakage import TrainingPeople, find_training_people, leakage_warning

CONFIGS = Path(__file__).parents[3] / "configs"
FOLDS, LEAST = 3, 8


class Histories(RuleBasedStateMachine):
    """Data folders that change between trainings of backbones and heads."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.config = load_task_config("gender", CONFIGS, [f"split.folds={FOLDS}", "backbone.weights=random"])
        self.sources: list[Path] = []
        self.runs: list[tuple[Path, set[str]]] = []  # checkpoints, and everybody whom they were trained on
        self.fold_of: dict[str, int] = {}
        self.people = 0
        self.written: dict[str, int] = {}  # people by the last letter of their source's name
        self.add_source("challenge")
        self.add_source("persons")

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def write_person(self, source: Path) -> None:
        """Add a person with two images to a folder of the challenge's layout, or to a CSV file."""
        self.people += 1
        self.written[source.name[-1]] = number = self.written.get(source.name[-1], 0) + 1
        truth, gender = f"person {self.people}", ("male", "female")[self.people % 2]
        if not (source / "labels.csv").exists():
            places = [
                source / "images" / f"{self.people:06d}_{gender}_Asian_30" / f"{s}.jpg" for s in ("normal", "mask1")
            ]
        else:
            # People of two sources have one name.
            with (source / "labels.csv").open("a") as labels:
                named = "person" in (source / "labels.csv").read_text().splitlines()[0]
                places = [source / "images" / f"{number}_{i}.jpg" for i in range(1 + named)]
                labels.writelines(f"{place.name},{gender}{f',p{number}' * named}\n" for place in places)
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(truth)

    @rule(layout=st.sampled_from(["challenge", "persons", "images"]))
    def add_source(self, layout: str) -> None:
        source = self.folder / f"data-0123abcd {len(self.sources)}"
        source.mkdir()
        if layout != "challenge":
            (source / "labels.csv").write_text("path,gender,person\n" if layout == "persons" else "path,gender\n")
        for _ in range(LEAST):
            self.write_person(source)
        self.sources.append(source)

    @rule(data=st.data(), count=st.integers(1, 4))
    def add_people(self, data: st.DataObject, count: int) -> None:
        source = data.draw(st.sampled_from([each for each in self.sources if each.name[:4] == "data"]))
        for _ in range(count):
            self.write_person(source)

    @rule(data=st.data(), share=st.sampled_from([0.1, 0.4]))
    def remove_images(self, data: st.DataObject, share: float) -> None:
        source = data.draw(st.sampled_from(self.sources))
        images = sorted(source.rglob("*.jpg"))
        gone = [image for i, image in enumerate(images) if i % round(1 / share) == 1]
        if len({image.read_text() for image in images if image not in gone}) < LEAST:
            return
        for image in gone:
            image.unlink()
            if image.parent.name != "images" and not any(image.parent.iterdir()):
                image.parent.rmdir()
        if (source / "labels.csv").exists():
            table = pd.read_csv(source / "labels.csv", dtype=str)
            table = table[[(source / "images" / name).exists() for name in table["path"]]]
            table.to_csv(source / "labels.csv", index=False)

    @rule(data=st.data())
    def move_folder(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.sources) - 1))
        old = self.sources[index]
        new = self.folder / f"moved{data.draw(st.integers(0, 9))}" / f"{old.name[:4]} renamed {index}"
        if not new.exists():
            new.parent.mkdir(exist_ok=True)
            self.sources[index] = old.rename(new)

    @rule(data=st.data())
    def draw_masks(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.sources), min_size=1, max_size=2, unique=True))
        table = read_table(chosen)
        if "mask" in table and not (table["mask"].isna() | (table["mask"] == "normal")).any():
            return
        faces = bare_faces(table)
        files = [[(f"{i}_bare.jpg", "normal"), (f"{i}_worn.jpg", "wear")] for i in range(len(faces))]
        out = self.folder / f"masked-89abcdef {len(self.sources)}"
        (out / "images").mkdir(parents=True)
        for path, names in zip(faces["path"], files, strict=True):
            for name, _ in names:
                shutil.copy(path, out / "images" / name)
        label_masked(faces, files).to_csv(out / "labels.csv", index=False)
        if len(read_table([out])["person"].unique()) >= FOLDS:
            self.sources.append(out)

    @rule(data=st.data(), fold=st.integers(0, FOLDS - 1), by_path=st.booleans(), correct=st.booleans())
    def train(self, data: st.DataObject, fold: int, by_path: bool, correct: bool) -> None:
        sources = data.draw(st.lists(st.sampled_from(self.sources), min_size=1, max_size=3, unique=True))
        backbone = data.draw(st.sampled_from([None, *self.runs]))
        fixes = self.folder / "fixes.csv"
        person = read_table(sources).iloc[0]
        name = person_in_source(person["source"], person["person"])
        fixes.write_text(f"person,column,value\n{name},gender,male\n")
        run = run_folder(self.folder, f"run{len(self.runs)}")
        weights = "random" if backbone is None else str(backbone[0]) if by_path else f"run:{backbone[0].parent.name}"
        config = self.config.model_copy(
            update={
                "split": self.config.split.model_copy(update={"fold": fold}),
                "backbone": self.config.backbone.model_copy(update={"weights": weights}),
                "corrections": str(fixes) if correct else None,
            }
        )
        split = build_split(config, sources, self.folder)
        store_split(config, self.folder, split)
        train, valid = (
            {Path(path).read_text(): int(number) for path, number in zip(rows["path"], rows["fold"], strict=True)}
            for rows in (split.train, split.valid)
        )
        assert train.keys().isdisjoint(valid)
        for truth, number in (train | valid).items():
            assert self.fold_of.setdefault(truth, number) == number
        people, warning = find_leakage(config, self.folder, None, split)
        before = set() if backbone is None else backbone[1]
        assert bool(before & valid.keys()) <= ("in the head's validation set" in warning)
        save_tensors(run.best, {}, {"config": {}, "people": people.to_json()})
        self.runs.append((run.best, before | train.keys()))


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=15,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking would train for minutes
)


def rows_of(**people: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        [(source, person) for source, each in people.items() for person in each], columns=["source", "person"]
    )


def test_leaked_people_are_counted_once_and_a_foreign_checkpoint_has_none(tmp_path: Path) -> None:
    file = tmp_path / "best.safetensors"
    people = TrainingPeople().after_training(["anna", "ben"]).after_training(["cleo"])
    save_tensors(file, {}, {"config": {}, "people": people.to_json()})
    assert find_training_people(file) == people
    warning = leakage_warning(file, people, rows_of(a=["anna", "anna", "dora"], b=["cleo", "emil"]))
    assert "trained on 2 people in the head's validation set" in warning
    assert leakage_warning(file, people, rows_of(a=["dora", "emil"])) == ""
    save_tensors(file, {}, {"other": 1})
    assert find_training_people(file) == find_training_people(tmp_path / "none") == TrainingPeople()


def old_run(folder: Path, validated: Sequence[str] | None) -> RunFolder:
    """A run of version 0.1: people only in validation.npz, as SOURCE-DIGEST/NAME."""
    run = run_folder(folder, "age_backbone")
    run.folder.mkdir(parents=True)
    save_tensors(run.best, {}, {"config": {}})
    if validated is not None:
        count = len(validated)
        text = {"path": np.full(count, ""), "shot": np.full(count, ""), "person": np.array(validated)}
        numbers = {"truth": np.zeros(count, np.int64), "probabilities": np.ones((count, 1)), "borders": np.zeros(0)}
        label = {"column": np.array("age"), "folds": np.array(5), "classes": np.array(["any"])}
        write_arrays(run.validation, text | numbers | label)
    return run


@pytest.mark.parametrize(
    ("validated", "valid", "leaked"),
    [
        (["train-00000001/anna"], {"train": ["anna"]}, 0),
        (["train-00000001/anna"], {"renamed": ["anna", "dora", "dora"]}, 1),
        (["train-00000001/anna"], {"masks": ["emil"], "others": ["dora"]}, 0),  # data that the backbone did not have
        (["train-00000001/anna", "b-00000002/cleo"], {"train": ["anna", "dora"], "b": ["cleo", "emil"]}, 2),
        (["m-0000000a/train-0000000b/anna"], {"again": ["anna", "dora"]}, 1),
    ],
)
def test_people_of_a_backbone_of_0_1_are_taken_from_its_validation_set(
    validated: list[str], valid: dict[str, list[str]], leaked: int, tmp_path: Path
) -> None:
    run = old_run(tmp_path, validated)
    people = find_training_people(run.best)
    warning = leakage_warning(run.best, people, rows_of(**valid))
    assert warning.count("of version 0.1, which did not store the people") == 1
    assert warning.count(f"trained on {leaked} people in the head's") == warning.count("\n") - 1 == bool(leaked)
    later = people.after_training(["emil"])
    assert (
        "it is not known which people its backbone was trained on (age_backbone/best.safetensors)"
        in leakage_warning(tmp_path / "head.safetensors", later, rows_of(x=["dora"]))
    )


def test_a_backbone_of_0_1_without_validation_cannot_be_checked(tmp_path: Path) -> None:
    run = old_run(tmp_path, None)
    warning = leakage_warning(run.best, find_training_people(run.best), rows_of(train=["anna"]))
    assert warning.endswith("train it again to have data leakage found\n")


def test_all_heads_of_a_folder_of_runs_share_one_file_of_folds(tmp_path: Path) -> None:
    assert folds_file(tmp_path, 5, 0) == tmp_path / "folds-5-0.csv"
