"""bfloat16 is chosen where processors multiply faster in it, fp16 where a device has it; both are for steps."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from data.runtime.errors import InputError
from heads.train.precision import bfloat16_pays, resolve_precision, without_autocast

AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512_bf16 avx512_vnni\n"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512_bf16 avx512_vnni\n"
WITH_AMX = INTEL.replace("avx2", "avx2 amx_bf16 amx_tile")
OLD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n"
ARM = "CPU implementer\t: 0x41\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("told", "pays"), [(AMD, True), (INTEL, False), (WITH_AMX, True), (OLD, False), (ARM, False)]
)
def test_bfloat16_pays_where_it_was_measured_to(tmp_path: Path, told: str, pays: bool) -> None:
    (tmp_path / "cpuinfo").write_text(told, encoding="utf-8")
    assert bfloat16_pays(tmp_path / "cpuinfo") is pays


def test_a_system_that_does_not_tell_trains_in_single_precision(tmp_path: Path) -> None:
    assert not bfloat16_pays(tmp_path / "nothing")


@pytest.mark.parametrize(("asked", "name"), [("fp32", "no"), ("bf16", "bf16"), ("fp16", "fp16")])
def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch, asked: str, name: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert resolve_precision(asked) == name


@pytest.mark.parametrize(("native", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_takes_bfloat16_where_a_device_has_it_and_does_not_only_emulate_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, name: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    assert resolve_precision("auto") == name


def test_half_precision_without_a_device_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        InputError, match=r"training\.precision: found fp16 and no CUDA device, .* set fp32, or auto"
    ):
        resolve_precision("fp16")
    assert resolve_precision("bf16") == "bf16"


@pytest.mark.usefixtures("accelerate_anew")
def test_what_accelerate_prepared_computes_in_single_precision_again() -> None:
    head, pixels = nn.Linear(5, 3), torch.randn(7, 5)
    expected = head(pixels)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare(head)
    assert not torch.equal(prepared(pixels), expected)
    for _ in range(2):  # a second time there is nothing left to take back
        without_autocast(prepared)
        assert torch.equal(prepared(pixels), expected)
    with accelerator.autocast():
        assert prepared(pixels).dtype == torch.bfloat16
