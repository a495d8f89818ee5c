"""Adaptive views: the laws that tie them to all views and to one, whatever the batches."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data.dataset import Sample
from ensemble.files.predictions import Predictions
from ensemble.inference.early_exit import needs_all_views, predict_adaptive
from ensemble.inference.predictor import Predictor, Task, build_task
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.objective.calibration import scale
from tests.ensemble.inference.toys import HEIGHT, WIDTH, changed, make_task, sample

IMAGES = 50
STEPS = {"mask": ["hflip"], "gender": ["hflip", {"brightness": {"factor": 1.5}}], "age": []}


@pytest.fixture
def tasks(configs: Path) -> dict[str, Task]:
    made = {}
    for name, steps in STEPS.items():
        config = load_config(TaskConfig, configs / f"{name}.yaml")
        made[name] = make_task(changed(config, views={"steps": steps}))
    return made


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (IMAGES, 3, HEIGHT, WIDTH), generator=generator).to(torch.uint8)


def adaptive(tasks: dict[str, Task], pixels: Tensor, threshold: float, size: int = 8, window: int = 16) -> Predictions:
    batches = (sample(part) for part in pixels.split(size))
    return Predictions.concat(list(predict_adaptive(Predictor(tasks), batches, threshold, size, window)))


@pytest.mark.parametrize("merge", ["mean", "geometric", "vote"])
@pytest.mark.parametrize(("size", "window"), [(1, 1), (3, 9), (8, 16), (64, 64)])
def test_undecided_images_have_all_views_and_others_the_first(size, window, merge, tasks, pixels) -> None:
    tasks = {name: replace(task, merge=merge) for name, task in tasks.items()}
    every = Predictor(tasks)(sample(pixels)).tasks
    for threshold in (0.0, 0.7, 1.0):
        found = adaptive(tasks, pixels, threshold, size, window).tasks
        for name, task in tasks.items():
            identity = every[name].first_view()
            more = needs_all_views(identity, threshold)
            assert more.all() == (threshold == 1.0)
            assert more.any() == (threshold > 0)
            merged = every[name].probabilities if len(task.views) > 1 else identity
            expected = np.where(more[:, None], merged, identity)
            np.testing.assert_allclose(found[name].probabilities, expected, atol=1e-5)
            np.testing.assert_array_equal(found[name].probabilities[~more], found[name].identity[~more])
            assert found[name].views.tolist() == np.where(more, len(task.views), 1).tolist()


def test_the_temperature_of_folds_is_the_geometric_mean_and_1_unless_asked_for(tasks: dict[str, Task]) -> None:
    heads = [replace(tasks["mask"].heads[0], temperature=temperature) for temperature in (0.5, 8.0)]
    assert build_task(heads, calibrated=True).temperature == pytest.approx(2)
    assert build_task(heads).temperature == 1


@pytest.mark.parametrize("temperature", [0.3, 2.5])
def test_a_temperature_scales_probabilities_and_changes_no_decision(temperature, tasks, pixels) -> None:
    hot = {name: replace(task, temperature=temperature) for name, task in tasks.items()}
    raw, calibrated = adaptive(tasks, pixels, 0.7), adaptive(hot, pixels, 0.7)
    np.testing.assert_array_equal(calibrated.joint_codes(), raw.joint_codes())
    every, batch = Predictor(hot)(sample(pixels)), Predictor(tasks)(sample(pixels))
    for name, expected in raw.tasks.items():
        for found, before in ((calibrated.tasks[name], expected), (every.tasks[name], batch.tasks[name])):
            np.testing.assert_allclose(found.probabilities, scale(before.probabilities, temperature), atol=1e-6)
            np.testing.assert_allclose(found.identity, scale(before.identity, temperature), atol=1e-6)
            np.testing.assert_array_equal(found.views, before.views)
            np.testing.assert_array_equal(found.value, before.value)


def test_a_number_is_the_mean_of_the_views_used(tasks: dict[str, Task], pixels: Tensor) -> None:
    [head] = tasks["age"].heads
    task = make_task(changed(head.config, views={"steps": ["hflip"]}), head.head)
    found = adaptive({"age": task}, pixels, 0.7).tasks["age"]
    by_view = [head.target.expectation(head.head(each / 255)).numpy() for each in (pixels, pixels.flip(3))]
    assert 5 < (found.views == 2).sum() < IMAGES - 5
    expected = np.where(found.views == 2, np.mean(by_view, axis=0), by_view[0])
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)


def test_further_views_are_computed_in_full_batches_of_the_same_tasks(tasks: dict[str, Task], pixels: Tensor) -> None:
    found = adaptive(tasks, pixels, 0.7, size=8, window=64)
    undecided = {name: found.tasks[name].views > 1 for name in ("mask", "gender")}
    both, alone = undecided["mask"] & undecided["gender"], undecided["mask"] ^ undecided["gender"]
    for name, task in tasks.items():
        rows = undecided.get(name, np.zeros(IMAGES, dtype=bool))
        counts = [int((rows & each).sum()) for each in (both, alone)]
        assert bool(min(counts)) == (name != "age")
        further = [size for more in counts for size in ([8] * (more // 8) + ([more % 8] if more % 8 else []))]
        expected = Counter([8] * 6 + [2]) + Counter(further * (len(task.views) - 1))
        assert Counter(batch[0] for batch in task.heads[0].head.batches) == expected


def test_windows_are_independent_to_the_last_bit_and_few_images_wait(tasks: dict[str, Task], pixels: Tensor) -> None:
    whole, rest = adaptive(tasks, pixels, 0.7).tasks, adaptive(tasks, pixels[32:], 0.7).tasks
    for name in tasks:
        for of_whole, of_rest in zip(whole[name], rest[name], strict=True):
            assert of_whole is of_rest is None or np.array_equal(of_whole[32:], of_rest)

    taken = 0

    def counted() -> Iterator[Sample]:
        nonlocal taken
        for part in pixels.repeat(10, 1, 1, 1).split(4):
            taken += 4
            yield sample(part)

    done = 0
    # At 0.01 a full batch of undecided images would never come.
    for result in predict_adaptive(Predictor(tasks), counted(), 0.01, 4, 16):
        done += len(result)
        assert taken - done < 16
    assert done == 10 * IMAGES


def test_undecodable_images_have_equal_probabilities_and_no_view(tasks: dict[str, Task], pixels: Tensor) -> None:
    errors = ["broken" if row in (3, 4, 17) else "" for row in range(IMAGES)]
    batches = (sample(pixels[at : at + 4], errors[at : at + 4]) for at in range(0, IMAGES, 4))
    found = Predictions.concat(list(predict_adaptive(Predictor(tasks), batches, 0.9, 4, 16)))
    assert found.errors == errors
    every = Predictor(tasks)(sample(pixels, errors))
    for each in (found, every):
        for output in each.tasks.values():
            for array in (output.probabilities, output.identity):
                equal = (array == np.float32(1 / array.shape[1])).all(axis=1)
                assert np.flatnonzero(equal).tolist() == [3, 4, 17]
        assert np.flatnonzero(np.isnan(each.tasks["age"].value)).tolist() == [3, 4, 17]
    assert np.flatnonzero(found.tasks["mask"].views == 0).tolist() == [3, 4, 17]
