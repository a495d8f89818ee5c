import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ensemble.joint import class_names, decode, encode, joint_probabilities

CHALLENGE = (3, 2, 3)

radices_lists = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@st.composite
def coded(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Radices, and per task the digits of a few samples."""
    radices = draw(radices_lists)
    samples = draw(st.integers(0, 5))
    digits = [draw(st.lists(st.integers(0, r - 1), min_size=samples, max_size=samples)) for r in radices]
    return radices, digits


@given(coded())
def test_decode_after_encode_is_the_identity_in_every_kind(case: tuple[list[int], list[list[int]]]) -> None:
    radices, digits = case
    arrays = [np.array(each, dtype=np.uint8) for each in digits]
    tensors = [torch.tensor(each, dtype=torch.int32) for each in digits]
    codes, tensor_codes = encode(arrays, radices), encode(tensors, radices)
    assert [each.tolist() for each in decode(codes, radices)] == digits
    assert [each.tolist() for each in decode(tensor_codes, radices)] == digits
    plain = [encode(sample, radices) for sample in zip(*digits, strict=True)]
    assert codes.tolist() == tensor_codes.tolist() == plain
    assert [decode(code, radices) for code in plain] == list(zip(*digits, strict=True))


@given(radices_lists)
def test_codes_agree_with_numpys_row_major_index(radices: list[int]) -> None:
    count = int(np.prod(radices))
    digits = np.unravel_index(np.arange(count), radices)
    assert encode(digits, radices).tolist() == list(range(count))


def test_the_challenges_formula() -> None:
    mask, gender, age = np.indices(CHALLENGE)
    np.testing.assert_array_equal(encode((mask, gender, age), CHALLENGE), mask * 6 + gender * 3 + age)


def test_narrow_arrays_do_not_overflow() -> None:
    digits = [np.array([99], dtype=np.uint8)] * 4
    assert encode(digits, [100] * 4).tolist() == [99_999_999]


def test_plain_ints_have_no_limit() -> None:
    radices = [10**6] * 8
    assert decode(encode(range(8), radices), radices) == tuple(range(8))
    with pytest.raises(ValueError, match="use plain ints"):
        decode(np.array([0]), radices)


@pytest.mark.parametrize("kind", [int, lambda v: np.array([0, v]), lambda v: torch.tensor([0, v])])
@pytest.mark.parametrize("value", [-1, 2])
def test_out_of_range_names_task_and_value(kind, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^task 1: {value} is out of range, expected 0\.\.1$"):
        encode((kind(0), kind(value), kind(0)), CHALLENGE)
    with pytest.raises(ValueError, match=r"^joint code: 18 is out of range, expected 0\.\.17$"):
        decode(kind(18), CHALLENGE)


@pytest.mark.parametrize("digit", [1.0, True, "1", [1], np.array([1.0]), np.array([True]), torch.tensor([1.0])])
def test_what_is_not_whole_is_refused(digit) -> None:
    with pytest.raises(ValueError, match=r"^task 0: .* is not a whole number"):
        encode([digit], [3])


def test_digits_of_different_shape_or_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"differ in kind or shape: ndarray \(2, 1\), ndarray \(2,\)"):
        encode([np.zeros((2, 1), int), np.zeros(2, int)], [2, 2])
    with pytest.raises(ValueError, match="2 digits for 3 radices"):
        encode([0, 0], CHALLENGE)


@pytest.mark.parametrize("radices", [[], [3, 0]])
def test_radices_need_a_class_each(radices: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        decode(0, radices)


def test_names_stand_in_the_codes_order() -> None:
    tasks = {"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"], "age": ["under 30", "60"]}
    names = class_names(tasks)
    assert names[encode((2, 1, 0), (3, 2, 2))] == "normal / female / under 30"
    assert len(names) == len(set(names)) == 12


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_the_joint_argmax_is_the_code_of_the_argmaxes(data: st.DataObject, radices: list[int]) -> None:
    samples = data.draw(st.integers(1, 4))
    heads = []
    for radix in radices:
        scores = data.draw(
            st_numpy.arrays(np.float32, (samples, radix), elements=st.floats(0.125, 1, width=32))
        )
        heads.append(scores / scores.sum(axis=1, keepdims=True))
    joint = joint_probabilities(heads)
    np.testing.assert_allclose(joint.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(joint.argmax(axis=1), encode([h.argmax(axis=1) for h in heads], radices))


def test_joint_probabilities_are_the_outer_product() -> None:
    mask, age = np.array([[0.9, 0.1]]), np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(joint_probabilities([mask, age])[0], np.kron(mask[0], age[0]))


@pytest.mark.parametrize("shapes", [[], [(2,)], [(2, 3), (3, 3)]])
def test_joint_probabilities_refuse_other_shapes(shapes) -> None:
    with pytest.raises(ValueError, match="same N"):
        joint_probabilities([np.zeros(shape) for shape in shapes])
