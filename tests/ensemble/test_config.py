from pathlib import Path

import pytest

from data.runtime.errors import InputError
from ensemble.config import load_joint, load_labels, load_tasks

ROOT = Path(__file__).parents[2]


def test_the_shipped_joint_code_is_the_challenge_s() -> None:
    tasks = load_tasks(ROOT / "configs" / "joint.yaml")
    assert list(tasks.items()) == [
        ("mask", ["wear", "incorrect", "normal"]),
        ("gender", ["male", "female"]),
        ("age", ["under 30", "30 to 59", "60 and over"]),
    ]


def test_only_ages_are_cut_from_a_number() -> None:
    labels = load_labels(ROOT / "configs" / "joint.yaml")
    cut = {task: (label.column, label.borders) for task, label in labels.items() if label.borders}
    assert cut == {"age": ("age", [30, 60])}


def test_tasks_come_in_the_order_of_the_file(configs: Path, tmp_path: Path) -> None:
    for path in configs.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "joint.yaml").write_text("tasks: [age, mask]\n")
    assert list(load_tasks(tmp_path / "joint.yaml")) == ["age", "mask"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [mask, age, mask]", "joint.yaml: tasks .* name one task twice"),
        ("tasks: [mask, joint, ans]", "joint.yaml: tasks: joint, ans stands for something else"),
        ("tasks: []", "joint.yaml:1: tasks"),
        ("tasks: mask", "joint.yaml:1: tasks='mask'"),
        ("tasks: [mask]\ntask: [age]", "joint.yaml:2: task: unknown key, did you mean tasks"),
        ("", "joint.yaml: tasks: missing"),
    ],
)
def test_a_joint_yaml_that_is_wrong_is_told_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "joint.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_joint(tmp_path / "joint.yaml")


def test_a_task_without_a_yaml_is_told(tmp_path: Path) -> None:
    (tmp_path / "joint.yaml").write_text("tasks: [hat]")
    with pytest.raises(InputError, match=r"hat\.yaml: no such file"):
        load_tasks(tmp_path / "joint.yaml")


def test_a_yaml_of_another_task_is_told(configs: Path, tmp_path: Path) -> None:
    (tmp_path / "joint.yaml").write_text("tasks: [hat]")
    (tmp_path / "hat.yaml").write_text((configs / "mask.yaml").read_text())
    with pytest.raises(InputError, match=r"hat\.yaml: task is 'mask', expected 'hat'"):
        load_tasks(tmp_path / "joint.yaml")
