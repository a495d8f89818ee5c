"""The joint code: one whole number for a class of every task; mixed radix, the first task on top."""

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Digit = TypeVar("Digit")  # int, a numpy array of integers, or a torch tensor of integers
LARGEST_ARRAY_CODE = np.iinfo(np.int64).max


def encode(digits: Sequence[Digit], radices: Sequence[int]) -> Digit:
    """Joint codes 0..prod(radices)-1 of the tasks' classes, the first task being the most significant digit.

    `digits` holds one entry per task, in 0..radix-1: plain ints, numpy integer arrays or torch integer
    tensors, all of one kind and shape. The codes come in that kind and shape (arrays as 64 bit integers).
    Raises ValueError that names the task's position and the value if a digit is out of range or not whole.

    >>> encode((2, 1, 0), (3, 2, 3))
    15
    >>> encode((np.array([0, 1]), np.array([1, 0]), np.array([2, 2])), (3, 2, 3)).tolist()
    [5, 8]
    """
    if len(digits) != len(radices):
        raise ValueError(f"{len(digits)} digits for {len(radices)} radices, expected one digit per task")
    _check_radices(radices)
    checked = [
        _checked(digit, radix, f"task {position}")
        for position, (digit, radix) in enumerate(zip(digits, radices, strict=True))
    ]
    # Broadcasting [N, 1] against [N] would make N x N codes without a word.
    if len({(type(digit), getattr(digit, "shape", ())) for digit in checked}) > 1:
        found = ", ".join(f"{type(digit).__name__} {tuple(getattr(digit, 'shape', ()))}" for digit in checked)
        raise ValueError(f"the tasks' digits differ in kind or shape: {found}")
    code = checked[0]
    for digit, radix in zip(checked[1:], radices[1:], strict=True):
        code = code * radix + digit
    return code  # type: ignore[no-any-return]


def decode(codes: Digit, radices: Sequence[int]) -> tuple[Digit, ...]:
    """The tasks' classes behind joint codes: the inverse of `encode`, with the same kinds, shapes and errors.

    >>> decode(15, (3, 2, 3))
    (2, 1, 0)
    """
    _check_radices(radices)
    rest = _checked(codes, prod(radices), "joint code")
    digits = []
    for radix in reversed(radices):
        digits.append(rest % radix)
        rest = rest // radix
    return tuple(reversed(digits))


def class_names(tasks: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the joint classes in the code's order; `tasks` has the most significant task first.

    >>> class_names({"mask": ["wear", "normal"], "gender": ["male", "female"]})
    ['wear / male', 'wear / female', 'normal / male', 'normal / female']
    """
    return [" / ".join(names) for names in product(*tasks.values())]


def joint_probabilities(probabilities: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """Probabilities [N, prod C] of the joint classes, the tasks' [N, C] taken to be independent.

    Computed in float64, so that for float32 heads no rounding can change which class comes first: the
    argmax is the code of the heads' argmaxes. Raises ValueError if an input is not [N, C] or N differs.
    """
    shapes = [np.shape(each) for each in probabilities]
    if not shapes or any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"expected one array [N, C] per task with the same N, found shapes {shapes}")
    joint = np.ones((shapes[0][0], 1))
    for each in probabilities:
        joint = (joint[:, :, None] * each[:, None, :].astype(np.float64)).reshape(
            len(joint), joint.shape[1] * each.shape[1]
        )
    return joint


def _check_radices(radices: Sequence[int]) -> None:
    if not radices:
        raise ValueError("no radices, expected the number of classes of at least one task")
    for position, radix in enumerate(radices):
        if radix < 1:
            raise ValueError(f"task {position}: radix {radix}, expected at least one class")


def _checked(values: Any, radix: int, what: str) -> Any:
    """`values` as an int, an int64 array or an int64 tensor, all in 0..radix-1, or else ValueError."""
    if isinstance(values, int) and not isinstance(values, bool):
        wrong = [] if 0 <= values < radix else [values]
    else:
        values = _whole(values, what)
        if radix - 1 > LARGEST_ARRAY_CODE:
            raise ValueError(f"{what}: {radix} classes do not fit a 64 bit integer; use plain ints")
        wrong = values[(values < 0) | (values > radix - 1)].tolist()
        values = values.astype(np.int64) if isinstance(values, np.ndarray) else values
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{what}: {wrong[0]} is out of range{more}, expected 0..{radix - 1}")
    return values


def _whole(values: Any, what: str) -> Any:
    """`values` as a numpy array or int64 tensor if they are integers, or else ValueError."""
    # A tensor can only come from someone who has imported torch: no need to wait for it here.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        if not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool):
            return values.long()
    elif isinstance(values, np.ndarray | np.integer) and values.dtype.kind in "iu":
        return np.asarray(values)
    shown = values.reshape(-1)[:1].tolist() if hasattr(values, "reshape") else [values]
    kind = f"{type(values).__name__} of {values.dtype}" if hasattr(values, "dtype") else type(values).__name__
    raise ValueError(f"{what}: {shown[0] if shown else values!r} is not a whole number ({kind} found)")
