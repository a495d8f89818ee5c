"""The precision is what the device gains from, for steps alone; one process's loss of a batch is its own."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import SGD

from data.runtime.errors import InputError
from data.runtime.machine import gains_from_bfloat16
from heads.objective.losses import WeightedSum, make_loss
from heads.train.distributed import WholeBatchLoss, prepare, resolve_precision

pytestmark = pytest.mark.usefixtures("accelerate_anew")
AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512_bf16 avx512_vnni\n"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512_bf16 avx512_vnni\n"


@pytest.mark.parametrize(
    ("cpuinfo", "gains"),
    [
        (AMD, True),
        (INTEL, False),
        (INTEL.replace("avx2", "avx2 amx_bf16 amx_tile"), True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n", False),
        ("CPU implementer\t: 0x41\nFeatures\t: fp asimd bf16\n", False),
    ],
)
def test_processors_that_gain_from_bfloat16(tmp_path: Path, cpuinfo: str, gains: bool) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    assert gains_from_bfloat16(tmp_path / "cpuinfo") is gains
    assert not gains_from_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize(
    ("precision", "cuda", "native", "name"),
    [
        ("fp32", False, False, "no"),
        ("bf16", False, False, "bf16"),
        ("fp16", True, False, "fp16"),
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp16"),  # bfloat16 is only emulated
    ],
)
def test_the_precision_is_resolved_for_the_device(
    monkeypatch: pytest.MonkeyPatch, precision: str, cuda: bool, native: bool, name: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert resolve_precision(precision) == name


def test_fp16_without_a_cuda_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"training\.precision: found fp16 and no CUDA device"):
        resolve_precision("fp16")


def test_a_prepared_head_computes_in_single_precision_outside_of_autocast() -> None:
    head, pixels = nn.Linear(5, 3), torch.randn(7, 5)
    expected = head(pixels)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    prepared, _ = prepare(head, SGD(head.parameters()), accelerator)
    assert torch.equal(prepared(pixels), expected)
    with accelerator.autocast():
        assert prepared(pixels).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["soft_f1", "cross_entropy"])
def test_the_whole_batch_of_one_process_is_its_own(name: str) -> None:
    loss = WeightedSum([make_loss(name)], [1.0], torch.tensor([1.0, 5.0]))
    logits, targets = torch.randn(5, 2, requires_grad=True), torch.tensor([0, 1, 1, 0, 1])
    value, expected = WholeBatchLoss(loss, Accelerator(cpu=True))(logits, targets), loss(logits, targets)
    assert torch.equal(value, expected)
    assert torch.equal(torch.autograd.grad(value, logits)[0], torch.autograd.grad(expected, logits)[0])
