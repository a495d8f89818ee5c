"""bfloat16 is chosen where processors multiply faster in it, not wherever they know the instruction."""

from pathlib import Path

import pytest

from heads.precision import accelerate_name, bfloat16_pays

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
def test_what_is_asked_for_is_taken(asked: str, name: str) -> None:
    assert accelerate_name(asked) == name
