import numpy as np
from sklearn.metrics import f1_score

from bench.merging.multipliers import fit_multipliers


def macro_f1(truth: np.ndarray, answers: np.ndarray, classes: int = 3) -> float:
    return f1_score(truth, answers, labels=range(classes), average="macro", zero_division=0)


def test_multipliers_recover_what_a_skewed_prior_took_away() -> None:
    generator = np.random.default_rng(1)
    truth = generator.choice(3, 4000, p=[0.6, 0.3, 0.1])
    likelihood = np.exp(-((generator.normal(truth, 0.7)[:, None] - np.arange(3)) ** 2))
    skewed = likelihood * [8.0, 2.0, 0.5]
    skewed /= skewed.sum(axis=1, keepdims=True)
    fitted = fit_multipliers(skewed[:2000], truth[:2000])
    plain, tuned = (macro_f1(truth[2000:], (skewed[2000:] * m).argmax(axis=1)) for m in (np.ones(3), fitted))
    assert tuned > plain + 0.05


def test_fitted_multipliers_never_lose_on_their_own_rows() -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        p, truth = generator.dirichlet(np.ones(18) / 3, 300), generator.integers(0, 18, 300)
        before, after = p.argmax(axis=1), (p * fit_multipliers(p, truth, rounds=1)).argmax(axis=1)
        assert macro_f1(truth, after, 18) >= macro_f1(truth, before, 18) - 1e-12


def test_certain_and_right_answers_need_no_multiplier() -> None:
    truth = np.arange(3).repeat(5)
    assert fit_multipliers(np.eye(3)[truth], truth).tolist() == [1, 1, 1]
