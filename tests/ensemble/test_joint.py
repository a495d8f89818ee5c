from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.runtime.errors import InputError
from ensemble.joint import argmax, decode, encode, joint_probabilities, load_joint, load_labels, load_tasks

CHALLENGE = (3, 2, 3)
JOINT = Path(__file__).parents[2] / "configs" / "joint.yaml"

radices_lists = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(radices_lists)
def test_codes_are_numpy_s_row_major_index_and_decode_inverts_encode(radices: list[int]) -> None:
    codes = np.arange(np.prod(radices))
    digits = np.unravel_index(codes, radices)
    found = encode([each.astype(np.uint8) for each in digits], radices)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, codes)
    np.testing.assert_array_equal(decode(found, radices), digits)
    last = tuple(radix - 1 for radix in radices)
    assert encode(last, radices) == codes[-1]
    assert decode(int(codes[-1]), radices) == last


def test_the_challenge_s_code_is_mask_times_6_gender_times_3_age() -> None:
    mask, gender, age = np.indices(CHALLENGE)
    np.testing.assert_array_equal(encode((mask, gender, age), CHALLENGE), mask * 6 + gender * 3 + age)


@pytest.mark.parametrize("kind", [int, lambda value: np.array([0, value])])
@pytest.mark.parametrize("value", [-1, 2])
def test_a_digit_out_of_range_is_named(kind, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^task 1: {value} is out of range, expected 0\.\.1$"):
        encode((kind(0), kind(value), kind(0)), CHALLENGE)
    with pytest.raises(ValueError, match=r"^joint code: 18 is out of range, expected 0\.\.17$"):
        decode(kind(18), CHALLENGE)


@pytest.mark.parametrize(
    ("digits", "radices", "message"),
    [
        ([1.0], [3], "^task 0: .*float64.* expected integers"),
        ([np.array([0]), np.array([1.0])], [3, 3], "^task 1: .* expected integers"),
        ([np.zeros((2, 1), int), np.zeros(2, int)], [2, 2], r"differ in shape: \(2, 1\), \(2,\)"),
        ([0, 0], CHALLENGE, "2 digits for 3 radices"),
        ([0, 0], [3, 0], "at least one"),
    ],
)
def test_wrong_digits_are_refused(digits: list, radices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(digits, radices)


@given(st.integers(0, 10**6), radices_lists)
def test_the_joint_argmax_is_the_code_of_the_argmaxes(seed: int, radices: list[int]) -> None:
    generator = np.random.default_rng(seed)
    heads = [generator.dirichlet(np.ones(radix), 4).astype(np.float32) for radix in radices]
    joint = joint_probabilities(heads)
    np.testing.assert_allclose(joint.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(argmax(heads), joint.argmax(axis=1))
    np.testing.assert_array_equal(decode(argmax(heads), radices), [head.argmax(axis=1) for head in heads])


def test_joint_probabilities_are_the_outer_product() -> None:
    mask, age = np.array([[0.9, 0.1]]), np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(joint_probabilities([mask, age])[0], np.kron(mask[0], age[0]))


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
        ("tasks: [mask, file]", "joint.yaml: tasks: file has another meaning"),
        ("tasks: [mask, a/b, 'c\\d']", "folders of runs\n  'a/b' names a folder in a folder\n  'c.*d' names"),
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
