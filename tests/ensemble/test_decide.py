import numpy as np
import pytest

from ensemble.decide import argmax
from ensemble.joint import decode, joint_probabilities

RADICES = (3, 2, 3)


@pytest.fixture
def heads() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.dirichlet(np.ones(radix), 200).astype(np.float32) for radix in RADICES]


def test_the_answer_is_the_likeliest_joint_class_of_independent_heads(heads: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(argmax(heads), joint_probabilities(heads).argmax(axis=1))


def test_the_answer_decodes_to_each_head_s_own(heads: list[np.ndarray]) -> None:
    answers = decode(argmax(heads), RADICES)
    for answer, head in zip(answers, heads, strict=True):
        np.testing.assert_array_equal(answer, head.argmax(axis=1))


def test_the_challenge_s_code_is_mask_times_6_gender_times_3_age() -> None:
    mask, gender, age = np.eye(3), np.eye(2), np.eye(3)
    for code in range(18):
        one = [mask[[code // 6]], gender[[code // 3 % 2]], age[[code % 3]]]
        assert argmax(one).tolist() == [code]
