"""Trained heads to joint answers: views, probabilities, joint code, metrics; may import data and heads.

>>> from ensemble import Ensemble
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.ensemble import Ensemble

__all__ = ["Ensemble"]


def __getattr__(name: str) -> Any:
    """Import `Ensemble` at first use: it loads PyTorch, which the scripts' --help does not wait for."""
    if name in __all__:
        return getattr(import_module("ensemble.ensemble"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
