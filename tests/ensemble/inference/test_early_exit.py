"""Adaptive views: the laws that tie them to all views and to one, whatever the batches."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ensemble.inference.views
from ensemble.inference.early_exit import adaptive_views, count_views, needs_all_views
from ensemble.inference.predictor import Predictor, Result, Task, build_task, predict_tasks
from heads.build import TrainedHead, build_target
from heads.config.loader import check_config, load_config
from heads.config.task import TaskConfig

CPU = torch.device("cpu")
HEIGHT, WIDTH, PHOTOGRAPHS = 6, 4, 50
STEPS = {"mask": ["hflip"], "gender": ["hflip", {"brightness": {"factor": 1.5}}], "age": []}


class Linear(nn.Module):
    """Random linear logits of the pixels, sure of some images and not of others; counts what it sees."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(classes, 3 * HEIGHT * WIDTH, generator=generator)
        self.batches: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        return (pixels.flatten(1) - 0.5) @ self.weight.T


@pytest.fixture
def tasks(configs: Path) -> dict[str, Task]:
    made = {}
    for seed, (name, steps) in enumerate(STEPS.items()):
        values = load_config(TaskConfig, configs / f"{name}.yaml").model_dump()
        values["views"]["steps"] = steps
        config = check_config(TaskConfig, values, name)
        target = build_target(config.label)
        made[name] = build_task([TrainedHead(Linear(target.outputs, seed), target, config, {})])
    return made


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (PHOTOGRAPHS, 3, HEIGHT, WIDTH), generator=generator).to(torch.uint8)


def in_batches(pixels: Tensor, size: int) -> Iterator[Sequence[Tensor]]:
    yield from ([part] for part in pixels.split(size))


def joined(results: Iterator[Result]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    batches = list(results)
    return {n: tuple(np.concatenate([batch[n][k] for batch in batches]) for k in (0, 1)) for n in batches[0]}


def adaptive(
    tasks: Mapping[str, Task], pixels: Tensor, margin: float, size: int = 8, window: int = 16
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    margins = dict.fromkeys(tasks, margin)
    return joined(adaptive_views(Predictor(tasks, CPU), in_batches(pixels, size), margins, size, window))


def in_all(tasks: Mapping[str, Task], pixels: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return joined(map(Predictor(tasks, CPU), in_batches(pixels, PHOTOGRAPHS)))


def test_at_margin_one_they_are_all_views_and_at_zero_the_first(tasks: dict[str, Task], pixels: Tensor) -> None:
    expected = in_all(tasks, pixels)
    for margin, which in ((1.0, 0), (0.0, 1)):
        found = adaptive(tasks, pixels, margin)
        for name in tasks:
            np.testing.assert_allclose(found[name][0], expected[name][which], atol=1e-6)
            np.testing.assert_allclose(found[name][1], expected[name][1], atol=1e-6)


@pytest.mark.parametrize(("margin", "views"), [(0.0, 1), (0.2, None), (1.0, 2)])
def test_a_number_is_the_mean_of_the_views_that_the_image_was_shown_in(
    margin: float, views: int | None, tasks: dict[str, Task], pixels: Tensor
) -> None:
    [head] = tasks["age"].heads
    values = head.config.model_dump()
    values["views"]["steps"] = ["hflip"]
    task = {"age": build_task([replace(head, config=check_config(TaskConfig, values, "age"))])}
    margins = {"age": margin}
    batches = list(adaptive_views(Predictor(task, CPU), in_batches(pixels, 8), margins, 8, 16))
    shown = [head.target.expectation(head.head(each / 255)).numpy() for each in (pixels, pixels.flip(3))]
    identity = np.concatenate([batch["age"].identity for batch in batches])
    asked = needs_all_views(identity, margin) if views is None else np.full(PHOTOGRAPHS, views == 2)
    assert views is not None or 5 < asked.sum() < PHOTOGRAPHS - 5
    expected = np.where(asked, np.mean(shown, axis=0), shown[0])
    np.testing.assert_allclose(np.concatenate([batch["age"].number for batch in batches]), expected, rtol=1e-5)


@pytest.mark.parametrize("merge", ["mean", "geometric", "vote"])
@pytest.mark.parametrize(("size", "window"), [(1, 1), (3, 9), (8, 16), (16, 64), (64, 64)])
def test_unsettled_images_have_all_views_in_their_places_whatever_the_batches(
    size: int, window: int, merge: str, tasks: dict[str, Task], pixels: Tensor
) -> None:
    tasks = {name: Task(task.heads, task.views, merge) for name, task in tasks.items()}
    expected = in_all(tasks, pixels)
    found = adaptive(tasks, pixels, 0.7, size, window)
    for name in ("mask", "gender"):
        merged, identity = expected[name]
        more = needs_all_views(identity, 0.7)
        assert 5 < more.sum() < PHOTOGRAPHS - 5
        np.testing.assert_allclose(found[name][0], np.where(more[:, None], merged, identity), atol=1e-6)
        np.testing.assert_array_equal(found[name][0][~more], found[name][1][~more])
        assert (np.abs(merged - identity).max(axis=1)[~more] > 1e-3).any()


def test_further_views_are_computed_in_full_batches_of_unsettled_images(
    tasks: dict[str, Task], pixels: Tensor
) -> None:
    found = adaptive(tasks, pixels, 0.7, size=8, window=64)
    for name, task in tasks.items():
        head = task.heads[0].head
        assert isinstance(head, Linear)
        more = int(needs_all_views(found[name][1], 0.7).sum())
        further = [8] * (more // 8) + ([more % 8] if more % 8 else [])
        views = len(task.views) - 1
        expected = Counter([8] * 6 + [2]) + Counter(further * views)
        assert Counter(head.batches) == expected
        shown = count_views(found[name][1], 0.7, len(task.views))
        assert int(shown.sum()) == sum(head.batches)


def test_windows_do_not_touch_one_another(tasks: dict[str, Task], pixels: Tensor) -> None:
    whole = adaptive(tasks, pixels, 0.7, 8, 16)
    rest = adaptive(tasks, pixels[32:], 0.7, 8, 16)
    for name in tasks:
        for of_whole, of_rest in zip(whole[name], rest[name], strict=True):
            np.testing.assert_array_equal(of_whole[32:], of_rest)  # to the last bit


def test_no_more_than_a_window_is_held_back(tasks: dict[str, Task], pixels: Tensor) -> None:
    taken = 0

    def counted() -> Iterator[Sequence[Tensor]]:
        nonlocal taken
        for batch in in_batches(pixels.repeat(10, 1, 1, 1), 4):
            taken += 4
            yield batch

    given = 0
    margins = dict.fromkeys(tasks, 0.01)  # hardly any is needs_all_views: a full batch of them would never come
    for result in adaptive_views(Predictor(tasks, CPU), counted(), margins, 4, 16):
        given += len(result["mask"][0])
        assert taken - given < 16
    assert given == 10 * PHOTOGRAPHS


def test_bad_images_keep_their_places(tasks: dict[str, Task], faces: Path, tmp_path: Path) -> None:
    paths = sorted((faces / "eval" / "images").iterdir())[:20]
    bad = {3, 4, 17}
    for row in bad:
        paths[row] = tmp_path / f"{row}.jpg"
        paths[row].write_bytes(b"no image")
    head = tasks["mask"].heads[0]
    values = head.config.model_dump()
    values["pixels"]["evaluate"] = [{"resize": {"height": HEIGHT, "width": WIDTH}}]
    heads = {"mask": build_task([replace(head, config=check_config(TaskConfig, values, "small"))])}
    unseen: list[tuple[int, str]] = []
    answer = partial(adaptive_views, margins={"mask": 0.9}, batch_size=4, window=16)
    found = joined(predict_tasks(heads, paths, CPU, 4, unseen=unseen, answer=answer))
    assert {row for row, _ in unseen} == bad
    merged, identity = found["mask"]
    for row in range(20):
        assert (merged[row] == 1 / 3).all() == (identity[row] == 1 / 3).all() == (row in bad)


def test_a_view_that_heads_share_is_computed_once(
    tasks: dict[str, Task], pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(pixels: Tensor) -> Tensor:
        calls["hflip"] += 1
        return pixels.flip(-1)

    monkeypatch.setitem(ensemble.inference.views.VIEWS, "hflip", counted)
    again = {name: build_task(task.heads) for name, task in tasks.items()}
    calls.clear()
    Predictor(again, CPU)([pixels])
    assert calls["hflip"] == 1  # of mask and gender
