from pathlib import Path

import pytest

from data.runtime.errors import InputError
from ensemble.config import load_joint, load_labels, load_tasks

JOINT = Path(__file__).parents[2] / "configs" / "joint.yaml"


def test_the_shipped_joint_code_is_the_challenge_s() -> None:
    assert list(load_tasks(JOINT)) == ["mask", "gender", "age"]
    classes = [["wear", "incorrect", "normal"], ["male", "female"], ["under 30", "30 to 59", "60 and over"]]
    assert list(load_tasks(JOINT).values()) == classes
    borders = {task: (label.column, label.borders) for task, label in load_labels(JOINT).items() if label.borders}
    assert borders == {"age": ("age", [30, 60])}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [mask, age, mask]", "joint.yaml: tasks .* name one task twice"),
        ("tasks: [mask, joint, ans]", "joint.yaml: tasks: joint, ans has another meaning"),
        ("tasks: []", "joint.yaml:1: tasks"),
        ("tasks: mask", "joint.yaml:1: tasks='mask'"),
        ("tasks: [mask]\ntask: [age]", "joint.yaml:2: task: unknown key, did you mean tasks"),
        ("", "joint.yaml: tasks: missing"),
    ],
)
def test_a_wrong_joint_yaml_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "joint.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_joint(tmp_path / "joint.yaml")


def test_tasks_are_in_the_order_of_the_file_and_each_yaml_is_its_task_s(configs: Path, tmp_path: Path) -> None:
    for name in ("age", "mask"):
        (tmp_path / f"{name}.yaml").write_text((configs / f"{name}.yaml").read_text())
    (tmp_path / "joint.yaml").write_text("tasks: [age, mask]\n")
    assert list(load_tasks(tmp_path / "joint.yaml")) == ["age", "mask"]
    (tmp_path / "joint.yaml").write_text("tasks: [hat]")
    with pytest.raises(InputError, match=r"hat\.yaml: no such file"):
        load_tasks(tmp_path / "joint.yaml")
    (tmp_path / "mask.yaml").rename(tmp_path / "hat.yaml")
    with pytest.raises(InputError, match=r"hat\.yaml: task is 'mask', expected 'hat'"):
        load_tasks(tmp_path / "joint.yaml")
