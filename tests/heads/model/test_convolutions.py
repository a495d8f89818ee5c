"""Winograd convolutions are PyTorch's, forward and backward, and only where they are chosen."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heads.model.convolutions import LEAST_TILES, Winograd, fits, pays, tiles_pay, with_winograd
from heads.model.head import Head
from heads.model.winograd import mapped


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def convolution(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    torch.manual_seed(inputs + outputs)
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).double()


# Tiles that fit, that hang over one edge or both, one alone, more than are worked on at once, and one channel.
SHAPES = [
    *((8, 3, 8, 8), (20, 5, 5, 4), (3, 2, 15, 20), (32, 3, 4, 4), (90, 2, 8, 10), (4, 1, 7, 29)),
    *((90, 2, 10, 8), (340, 1, 5, 4), (40, 2, 6, 8)),  # one below the other, in several parts
]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_pytorchs_convolution(shape: tuple[int, ...], bias: bool, fixed: bool) -> None:
    direct, pixels = convolution(shape[1], 7, bias), drawn(*shape)
    assert pays(pixels)
    with torch.no_grad():
        torch.testing.assert_close(Winograd(direct, fixed)(pixels), direct(pixels), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_pytorchs(shape: tuple[int, ...]) -> None:
    direct, pixels = convolution(shape[1], 7, True), drawn(*shape).requires_grad_()
    found, expected = (
        torch.autograd.grad(each(pixels).pow(2).sum(), (pixels, direct.weight, direct.bias))
        for each in (Winograd(direct), direct)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_pixels_that_need_no_gradient_get_none() -> None:
    direct, pixels = convolution(3, 4), drawn(8, 3, 8, 8)
    Winograd(direct)(pixels).sum().backward()
    assert pixels.grad is None
    assert direct.weight.grad is not None
    expected = torch.autograd.grad(direct(pixels).sum(), direct.weight)[0]
    torch.testing.assert_close(direct.weight.grad, expected, rtol=1e-9, atol=1e-9)


def test_fixed_weights_pass_the_gradient_of_pixels_on() -> None:
    direct, pixels = convolution(3, 4).requires_grad_(False), drawn(8, 3, 8, 8).requires_grad_()
    found = torch.autograd.grad(Winograd(direct, fixed=True)(pixels).sum(), pixels)
    torch.testing.assert_close(found, torch.autograd.grad(direct(pixels).sum(), pixels), rtol=1e-9, atol=1e-9)


def test_in_single_precision_it_stays_close() -> None:
    pixels, weight = drawn(16, 256, 10, 8, dtype=torch.float32), drawn(256, 256, 3, 3, dtype=torch.float32)
    direct = nn.Conv2d(256, 256, 3, padding=1, bias=False)
    direct.weight.data = weight
    expected = F.conv2d(pixels.double(), weight.double(), padding=1)
    with torch.no_grad():
        far = (Winograd(direct)(pixels) - expected).abs().max() / expected.abs().max()
    assert far < 2e-5


def test_weights_map_to_36_matrices_whose_corner_is_a_sixteenth() -> None:
    weight = drawn(5, 2, 3, 3)
    assert mapped(weight).shape == (36, 2, 5)
    torch.testing.assert_close(mapped(weight)[0], weight[:, :, 0, 0].t() / 16)  # G's first row is (1/4, 0, 0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 128, 20, 15), True),
        ((48, 512, 5, 4), True),  # layer4 at 160x120
        ((48, 512, 3, 2), False),  # one tile of 16 outputs for 6
        ((LEAST_TILES // 2, 512, 5, 4), True),
        ((LEAST_TILES // 2 - 1, 512, 5, 4), False),
    ],
)
def test_few_tiles_or_much_waste_do_not_pay(shape: tuple[int, ...], expected: bool) -> None:
    assert pays(torch.empty(shape, device="meta")) is expected


def test_where_it_does_not_pay_it_is_the_direct_convolution_to_the_bit() -> None:
    direct, pixels = convolution(3, 4, True), drawn(1, 3, 8, 8)
    assert torch.equal(Winograd(direct)(pixels), direct(pixels))


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.Conv2d(128, 128, 3, padding="same"),
        nn.Linear(128, 128),
    ],
)
def test_other_layers_do_not_fit(other: nn.Module) -> None:
    assert not fits(other)


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_tiles_pay_where_they_were_measured_to(tmp_path: Path, vendor: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\nflags\t\t: avx2 avx512f\n", encoding="utf-8")
    assert tiles_pay(tmp_path / "cpuinfo") is expected
    assert not tiles_pay(tmp_path / "nothing")


def test_a_head_keeps_its_parameters_names_and_answers() -> None:
    torch.manual_seed(0)
    head = Head("resnet18", 3).eval()
    before, pixels = head.state_dict(), torch.rand(32, 3, 96, 72)
    with torch.inference_mode():
        expected = head(pixels)
        other = with_winograd(copy.deepcopy(head))
        assert sum(isinstance(module, Winograd) for module in other.modules()) == 9
        torch.testing.assert_close(other(pixels).softmax(1), expected.softmax(1), rtol=0, atol=1e-5)
    assert list(other.state_dict()) == list(before)
    assert list(with_winograd(head, fixed=True).state_dict()) == list(before)


def test_a_step_of_training_is_that_of_direct_convolutions() -> None:
    torch.manual_seed(0)
    direct, pixels, truth = Head("resnet18", 3).double(), drawn(32, 3, 96, 72), torch.arange(32) % 3
    other = with_winograd(copy.deepcopy(direct))
    for head in (direct, other):
        F.cross_entropy(head(pixels), truth).backward()
    for parameter, twin in zip(direct.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(twin.grad, parameter.grad, rtol=1e-6, atol=1e-9)
