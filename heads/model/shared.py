"""Heads computed together: layers that are the same function in several of them run once.

Heads that were trained from one backbone with its first stages frozen still have these in common.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from heads.model.head import STAGES, Head

NORMALISATION = "normalisation"
LAYERS = (NORMALISATION, *STAGES)  # from the pixels up


class SharedHeads(nn.Module):
    """Pixels [N, 3, H, W], uint8 or float in 0..1, to the logits [N, outputs] of several heads, as each gives alone.

    Heads share a layer, the normalisation or a stage, if all up to it are equal, tensor by tensor.

    Args:
        heads: of one image size, in eval mode; modules other than `Head` share nothing.
        share: False computes each head by itself.
    """

    def __init__(self, heads: Iterable[nn.Module], share: bool = True) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        # Of each layer and head: the first head that is the same function up to there.
        self.owners = [list(range(len(self.heads))) if not share else [0] * len(self.heads)]
        for layer in LAYERS:
            self.owners.append(_match(list(self.heads), self.owners[-1], layer))
        del self.owners[0]

    def forward(
        self,
        pixels: Tensor,
        places: Sequence[int] | None = None,
        finish: Callable[[Head, Tensor], Tensor] = Head.classify,
        views: Sequence[int] | None = None,
        images: int = 0,
    ) -> list[Tensor]:
        """Compute the heads at `places`, in this order; None: all.

        Args:
            finish: a head's output from the grid [N, F, h, w] after its last stage.
            views: where `pixels` are views of `images` one after the other, how many of the first each head gets; None:
                all.
        """
        wanted = list(range(len(self.heads)) if places is None else places)
        found: dict[int, Tensor] = {}

        def limit(values: Tensor, group: Sequence[int]) -> Tensor:
            most = max(views[place] for place in group) if views else 0
            return values[: most * images] if views and most < max(views) else values

        def compute(values: Tensor, group: Sequence[int], depth: int) -> None:
            for owner in dict.fromkeys(self.owners[depth][place] for place in group):
                same, head = [place for place in group if self.owners[depth][place] == owner], self.heads[owner]
                part = limit(values, same)
                if not isinstance(head, Head):
                    found[owner] = head(part)
                elif depth < len(STAGES):
                    compute(head.compute_layer(LAYERS[depth], part), same, depth + 1)
                else:
                    grid = head.compute_layer(LAYERS[depth], part)
                    for place in same:
                        found[place] = finish(cast(Head, self.heads[place]), limit(grid, [place]))

        compute(pixels, wanted, 0)
        return [found[place] for place in wanted]


def _match(heads: Sequence[nn.Module], before: Sequence[int], layer: str) -> list[int]:
    """Number each head by the first one with the same `layer`, and the same number in `before`, of the layer below."""
    owners: list[int] = []
    for place, head in enumerate(heads):
        same = (each for each in dict.fromkeys(owners) if before[each] == before[place])
        owners.append(next((each for each in same if _is_same(heads[each], head, layer)), place))
    return owners


def _is_same(one: nn.Module, other: nn.Module, layer: str) -> bool:
    """Whether a layer is the same function in two heads: modules of equal settings, as their texts say, and tensors."""
    if not (isinstance(one, Head) and isinstance(other, Head)):
        return False
    if layer == NORMALISATION:
        return torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)
    modules = [[head.backbone.get_submodule(name) for name in STAGES[layer]] for head in (one, other)]
    if str(modules[0]) != str(modules[1]):
        return False
    # Batch norm counts its batches, which its function does not depend on.
    tensors, others = (
        [t for module in each for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")]
        for each in modules
    )
    return all(map(torch.equal, tensors, others))
