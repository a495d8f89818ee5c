"""A list dealt out: every draw in one process's hands, in the batches of one process."""

from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import BatchSampler

from data.dataset import SampleIndex
from heads.objective.losses import make_loss
from heads.train.distributed import WholeBatchLoss
from heads.train.loaders import make_loader
from heads.train.sampler import BalancedSampler
from heads.train.sharding import BatchShares, WholeBatches, shard_training

NUMBERS = {"rows": st.integers(1, 40), "size": st.integers(1, 9), "processes": st.integers(1, 5)}


def batches(rows: int, size: int) -> BatchSampler:
    return BatchSampler([(2, row, 0) for row in range(rows)], size, drop_last=False)


@given(**NUMBERS)
def test_shares_of_a_batch_make_the_batch_and_all_take_as_many_steps(
    rows: int, size: int, processes: int
) -> None:
    whole = batches(rows, size)
    dealt = [list(BatchShares(whole, processes, process)) for process in range(processes)]
    for batch, *shares in zip(whole, *dealt, strict=True):
        assert sorted(draw for share in shares for draw in share) == batch
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert {len(BatchShares(whole, processes, process)) for process in range(processes)} == {len(whole)}


@given(**NUMBERS)
def test_whole_batches_are_dealt_once_each(rows: int, size: int, processes: int) -> None:
    whole = batches(rows, size)
    parts = [WholeBatches(whole, processes, process) for process in range(processes)]
    dealt = [tuple(batch) for part in parts for batch in part]
    assert Counter(dealt) == Counter(map(tuple, whole))
    assert [len(list(part)) for part in parts] == [len(part) for part in parts]


@pytest.mark.usefixtures("accelerate_anew")
def test_one_process_deals_itself_the_whole_list_anew_each_epoch() -> None:
    class Draws(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 7

        def __getitem__(self, draw: SampleIndex) -> torch.Tensor:
            return torch.tensor(draw)

    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1]).numpy()
    sampler = BalancedSampler(labels, list("abcdefg"), power=1.0)
    dealt = shard_training(make_loader(Draws(), sampler, 3, 0, 0), Accelerator(cpu=True))
    for epoch in (0, 1):
        sampler.epoch = epoch
        drawn = torch.cat(list(dealt)).tolist()
        assert [draw[:2] for draw in drawn] == [[epoch, row] for row in sampler.rows(epoch).tolist()]
    assert dealt.total_batch_size == 3


@pytest.mark.usefixtures("accelerate_anew")
@pytest.mark.parametrize("loss", [make_loss("soft_f1", None), nn.CrossEntropyLoss(torch.tensor([1.0, 5.0]))])
def test_the_whole_batch_of_one_process_is_its_own(loss: nn.Module) -> None:
    logits, targets = torch.randn(5, 2, requires_grad=True), torch.tensor([0, 1, 1, 0, 1])
    value = WholeBatchLoss(loss, Accelerator(cpu=True))(logits, targets)
    [gradient] = torch.autograd.grad(value, logits)
    expected = loss(logits, targets)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected, logits)[0])
