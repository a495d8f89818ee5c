import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import gmean

from ensemble.inference.predictor import MERGES

probabilities = (
    arrays.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6)
    .flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(0.01, 1)))
    .map(lambda values: values / values.sum(axis=2, keepdims=True))
)


@given(views=probabilities)
@settings(max_examples=25)
def test_merges_are_numpy_s_scipy_s_and_counted_votes(views: npt.NDArray[np.float64]) -> None:
    merged = {name: merge(torch.from_numpy(views)).numpy() for name, merge in MERGES.items()}
    np.testing.assert_allclose(merged["mean"], views.mean(axis=0))
    geometric = gmean(views, axis=0)
    np.testing.assert_allclose(merged["geometric"], geometric / geometric.sum(axis=1, keepdims=True), rtol=1e-9)
    for row, answer in enumerate(merged["vote"].argmax(axis=1)):
        votes = np.bincount(views[:, row].argmax(axis=1), minlength=views.shape[2])
        most = np.flatnonzero(votes == votes.max())
        means = views[:, row].mean(axis=0)
        assert answer in most
        assert means[answer] == pytest.approx(means[most].max())
    for name, merge in MERGES.items():
        np.testing.assert_allclose(merged[name].sum(axis=1), 1)
        same = merge(torch.from_numpy(np.repeat(views[:1], len(views), axis=0))).numpy()
        np.testing.assert_array_equal(same.argmax(axis=1), views[0].argmax(axis=1))


def test_a_geometric_mean_over_zeros_is_finite() -> None:
    merged = MERGES["geometric"](torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]))
    np.testing.assert_allclose(merged.numpy(), [[0.5, 0.5], [1.0, 0.0]], atol=1e-6)
