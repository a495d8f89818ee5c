"""Batch norm fuse_batch_norm into the convolutions before it: the same function, in fewer passes over memory.

In evaluation batch norm scales and shifts the channels that a convolution gives, which the convolution can do
itself with other weights (Jacob et al. 2018, doi:10.1109/CVPR.2018.00286, section 3.2).
"""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


def fuse_batch_norm(head: nn.Module) -> nn.Module:
    """A copy of `head`, in eval mode, that computes the same without the batch norms of its resnet.

    `head` itself stays what its checkpoint says; one in which nothing can be fuse_batch_norm is returned as it is.
    """
    if not any(_pairs(module) for module in head.modules()):
        return head
    copied = copy.deepcopy(head).eval().requires_grad_(False)
    for module in list(copied.modules()):
        for (convolution, norm), (first, second) in _pairs(module).items():
            module.register_module(convolution, fuse_conv_bn_eval(first, second))
            module.register_module(norm, nn.Identity())
    return copied.to(memory_format=torch.channels_last)


def _pairs(module: nn.Module) -> dict[tuple[str, str], Pair]:
    """Convolutions of a module whose output goes to one of its batch norms alone, with it, by their names.

    By torchvision's names, since modules do not say in which order they are called: conv1 and bn1, and so on;
    in its shortcuts, which are sequential, 0 and 1.
    """
    found = {}
    for name, child in module.named_children():
        after = "1" if isinstance(module, nn.Sequential) and name == "0" else name.replace("conv", "bn")
        norm = getattr(module, after, None)
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            found[name, after] = child, norm
    return found
