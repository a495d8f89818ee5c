"""Tables of a page: cells with a text and the number that they are sorted by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DASH = "\N{EN DASH}"  # where there is no figure


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number that it is sorted by (None: its text), and a note beside it."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption, headings and rows of as many cells; the first column names the row.

    `sortable` is False where the order has a meaning, as in a confusion matrix. `name` is the element's id, for
    links and tests; none if empty.
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
    """Make a cell that is sorted as text."""
    return Cell(str(words), None, note)


def number(value: float | None, digits: int = 3) -> Cell:
    """Make a cell of a decimal number; None becomes a dash, which is sorted last.

    >>> number(0.12345).text, number(None).text == DASH
    ('0.123', True)
    """
    return Cell(DASH) if value is None else Cell(f"{value:.{digits}f}", float(value))


def count(value: int) -> Cell:
    """Make a cell of a whole number, with separators of thousands: 12,600."""
    return Cell(f"{value:,}", value)


def percent(part: float, digits: int = 1) -> Cell:
    """Make a cell of a share, 0..1, in percent: 12.3 %."""
    return Cell(f"{100 * part:.{digits}f} %", float(part))


def signed(value: float, digits: int = 3) -> Cell:
    """Make a cell of a difference with its sign.

    >>> signed(0.01).text, signed(-0.01).text, signed(-0.0001).text
    ('+0.010', '-0.010', '0.000')
    """
    figure = f"{value:+.{digits}f}"
    return Cell(figure if float(figure) else figure[1:], float(value))


def cells(values: Iterable[Cell | str | int]) -> list[Cell]:
    """Make a row of cells from text and whole numbers; cells stay as they are.

    >>> [cell.text for cell in cells(["mask", 1200, number(0.5)])]
    ['mask', '1,200', '0.500']
    """
    return [each if isinstance(each, Cell) else count(each) if isinstance(each, int) else text(each) for each in values]
