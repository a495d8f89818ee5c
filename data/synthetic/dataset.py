"""A data set of drawn people in the challenge's layout."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from data.runtime.files import write_folder_atomically
from data.runtime.processes import parallel_map
from data.synthetic.person import imagine_person
from data.synthetic.portrait import SHOTS, draw_portrait

RACE = "Drawn"
GENDERS = ["male", "female"]
AGE_BORDERS = [18, 30, 60, 80]  # where each of the three classes starts, and the last one ends
AGE_SHARES = [0.0, 0.4, 0.8, 1.0]  # of the people below these ages
JPEG_QUALITY = 92
CHUNK = 8
TRAIN, EVAL = 0, 1


@dataclass(frozen=True)
class PersonPlan:
    """One person to draw; `key` (seed, TRAIN or EVAL, index) decides every random choice about them."""

    number: int  # the id in the folder's name, never the same in train and eval
    age: int
    gender: str
    key: tuple[int, int, int]

    @property
    def folder(self) -> str:
        """The name of the person's folder of images."""
        return f"{self.number:06d}_{self.gender}_{RACE}_{self.age}"

    def image_id(self, shot: str) -> str:
        """Return a file name of 40 hexadecimal digits that does not reveal the labels."""
        return hashlib.sha1(f"{self.key} {shot}".encode(), usedforsecurity=False).hexdigest() + ".jpg"


def write_dataset(
    out: Path, people: int, eval_people: int, size: tuple[int, int], seed: int, processes: int | None = None
) -> None:
    """Write `people` drawn people to `out`/train and `eval_people` others to `out`/eval, seven shots each.

    `size` is (width, height) in pixels. The bytes depend on these arguments alone, not on `processes` (None:
    one a core). `out` appears only when complete; InputError if it holds anything before.
    """
    train = plan_people(people, seed, TRAIN, first_number=1)
    evaluation = plan_people(eval_people, seed, EVAL, first_number=people + 1)
    with write_folder_atomically(out) as folder:
        for part in ("train", "eval"):
            (folder / part / "images").mkdir(parents=True)
        draw = partial(_draw, out=folder, size=size)
        list(parallel_map(draw, train + evaluation, processes, chunk=CHUNK))
        _write_tables(folder, train, evaluation)


def plan_people(count: int, seed: int, part: int, first_number: int) -> list[PersonPlan]:
    """Plan people whose ages and genders fill the shares as evenly as `count` allows, in random order."""
    rng = np.random.default_rng([seed, part])
    places = (np.arange(count) + rng.uniform(0.0, 1.0, count)) / max(count, 1)
    ages = np.interp(places, AGE_SHARES, AGE_BORDERS).astype(int)
    return [
        PersonPlan(first_number + index, int(ages[rank]), GENDERS[rank % 2], (seed, part, index))
        for index, rank in enumerate(rng.permutation(count).tolist())
    ]


def joint_code(shot: str, gender: str, age: int) -> int:
    """Compute the challenge's joint code of an image: mask * 6 + gender * 3 + age class.

    >>> joint_code("mask3", "male", 29), joint_code("incorrect_mask", "female", 30)
    (0, 10)
    """
    mask = [True, False, None].index(SHOTS[shot])
    age_class = sum(age >= border for border in AGE_BORDERS[1:-1])
    return mask * 6 + GENDERS.index(gender) * 3 + age_class


def _draw(plan: PersonPlan, out: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([*plan.key, plan.number])
    person = imagine_person(plan.age, plan.gender, rng)
    for shot in SHOTS:
        if plan.key[1] == TRAIN:
            path = out / "train" / "images" / plan.folder / f"{shot}.jpg"
        else:
            path = out / "eval" / "images" / plan.image_id(shot)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_portrait(person, shot, rng, size)).save(path, "JPEG", quality=JPEG_QUALITY)


def _write_tables(out: Path, train: list[PersonPlan], evaluation: list[PersonPlan]) -> None:
    people = [(f"{each.number:06d}", each.gender, RACE, each.age, each.folder) for each in train]
    answers = sorted(
        (each.image_id(shot), joint_code(shot, each.gender, each.age), f"{each.number:06d}", each.age)
        for each in evaluation
        for shot in SHOTS
    )
    table = pd.DataFrame(answers, columns=["ImageID", "ans", "person", "age"])
    for path, rows in (
        ("train/train.csv", pd.DataFrame(people, columns=["id", "gender", "race", "age", "path"])),
        ("eval/answers.csv", table),
        ("eval/info.csv", table[["ImageID", "ans"]].assign(ans=0)),
    ):
        rows.to_csv(out / path, index=False, lineterminator="\n")
