"""Markdown tables, and figures over seeds in their cells."""

from collections.abc import Sequence

import pandas as pd


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def spread(values: pd.Series, digits: int, sign: str = "") -> str:
    """Format mean ± sample standard deviation; the mean alone for one value, nothing for none. NaN is ignored.

    With "+" as `sign`, positive numbers have one, too.

    >>> spread(pd.Series([0.5]), 3), spread(pd.Series([0.5, None, 0.7]), 3)
    ('0.500', '0.600 ± 0.141')
    >>> spread(pd.Series([-0.0001]), 3, "+")
    '+0.000'
    """
    values = values.dropna()
    if values.empty:
        return ""
    # z: no minus before a number that rounds to zero.
    return f"{values.mean():{sign}z.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")
