"""Tables of a page: cells that tell what they show and what they are sorted by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DASH = "\N{EN DASH}"  # where there is no figure


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the number it is sorted by (None: by its text), and a remark shown beside it."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose columns a reader can sort by; the first column names the row.

    Attributes:
        caption: what stands above it; also its name for a screen reader.
        columns: headings.
        rows: cells, as many as columns.
        sortable: False where the order says something, such as the digits of a confusion matrix.
        name: the element's id, for links and tests; none if empty.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"{self.caption}: {wrong[0]} cells in a row, expected {len(self.columns)}")


def text(words: object, note: str = "") -> Cell:
    """A cell of words, sorted as text."""
    return Cell(str(words), None, note)


def number(value: float | None, digits: int = 3) -> Cell:
    """A cell of a decimal number; None is shown as a dash and sorted last.

    >>> number(0.12345).text, number(None).text == DASH
    ('0.123', True)
    """
    return Cell(DASH) if value is None else Cell(f"{value:.{digits}f}", float(value))


def count(value: int) -> Cell:
    """A cell of a whole number, thousands apart.

    >>> count(12600).text
    '12,600'
    """
    return Cell(f"{value:,}", value)


def percent(part: float, digits: int = 1) -> Cell:
    """A cell of a share 0..1, shown in percent.

    >>> percent(0.123).text
    '12.3 %'
    """
    return Cell(f"{100 * part:.{digits}f} %", float(part))


def signed(value: float, digits: int = 3) -> Cell:
    """A cell of a difference, with its sign.

    >>> signed(0.01).text, signed(-0.01).text, signed(-0.0001).text
    ('+0.010', '-0.010', '0.000')
    """
    shown = f"{value:+.{digits}f}"
    return Cell(shown if float(shown) else shown[1:], float(value))


def cells(values: Iterable[Cell | str | int]) -> list[Cell]:
    """A row of cells: text as it is, whole numbers counted.

    >>> [cell.text for cell in cells(["mask", 1200, number(0.5)])]
    ['mask', '1,200', '0.500']
    """
    return [
        each if isinstance(each, Cell) else count(each) if isinstance(each, int) else text(each)
        for each in values
    ]
