"""Spend by month as stacked bars: places in a drawing 640 wide, drawn by the template."""

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from chirp_dashboard.organizations.templatetags.ui import money

WIDTH, HEIGHT, TOP, BASE = 640, 224, 28, 196
LEFT = 72  # for the words of the axis
LINE = 18  # of the words on hover
LONGEST_BAR = 56

# At most five, in the order they are stacked; what is expected is drawn as an outline.
SERIES = {
    "local": ("Local", "series-1"),
    "tollfree": ("Toll-free", "series-2"),
    "shortcode": ("Short codes", "series-3"),
    "tax": ("Tax", "series-4"),
    "": ("Other", "series-5"),
}
EXPECTED = ("Expected", "series-1 planned")


@dataclass(frozen=True)
class Month:
    first: date
    sums: dict  # by series
    expected: int = 0

    @property
    def invoiced(self):
        return sum(self.sums.values())

    @property
    def total(self):
        return self.invoiced + self.expected

    @property
    def heights(self):
        """`(series, amount)` above or below zero, what is expected last."""
        parts = [(SERIES[kind][1], self.sums[kind]) for kind in SERIES if self.sums.get(kind)]
        return parts + ([(EXPECTED[1], self.expected)] if self.expected else [])

    @property
    def above(self):
        return sum(amount for _, amount in self.heights if amount > 0)

    @property
    def below(self):
        return sum(amount for _, amount in self.heights if amount < 0)


@dataclass(frozen=True)
class Rect:
    series: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Bar:
    """One month: its rectangles and the words shown when it has the pointer or the focus."""

    label: str
    name: str
    text: str
    lines: list
    rects: list
    x: float
    width: float
    top: float
    tip_width: int = 0
    middle: float = field(default=0)
    is_second: bool = False  # its name is left out where there is little room

    @property
    def is_planned(self):
        return any("planned" in rect.series for rect in self.rects)

    @property
    def value_y(self):
        return round(self.top - 6, 1)

    @property
    def tip_x(self):
        """Beside the bar, on the side where there is room."""
        right = self.x + self.width + 8
        return round(right if right + self.tip_width <= WIDTH else self.x - 8 - self.tip_width, 1)

    @property
    def tip_height(self):
        return LINE * len(self.lines) + 12

    @property
    def tip(self):
        """`(x, right, y, name, sum)` of each line of words."""
        right = round(self.tip_x + self.tip_width - 10, 1)
        return [
            (round(self.tip_x + 10, 1), right, LINE * (place + 1), name, text)
            for place, (name, text) in enumerate(self.lines)
        ]


@dataclass(frozen=True)
class Chart:
    """`months` are those of a Statement; `planned` is `(day, sum)` of the invoice that comes next."""

    months: list
    planned: tuple
    currency: str

    @classmethod
    def of(cls, statement):
        return cls(
            statement.months,
            (statement.next_invoice_on, statement.forecast),
            statement.organization.currency,
        )

    @cached_property
    def columns(self):
        """The months, the one of the next invoice with what is expected."""
        day, expected = self.planned
        first = day.replace(day=1)
        columns = [
            Month(month, sums, expected if month == first else 0) for month, sums in self.months
        ]
        if first > columns[-1].first:
            columns.append(Month(first, {}, expected))
        return columns

    @property
    def is_empty(self):
        return not any(month.heights for month in self.columns)

    @cached_property
    def series(self):
        """`(name, classes)` of what is drawn at all."""
        used = [
            SERIES[kind] for kind in SERIES if any(month.sums.get(kind) for month in self.columns)
        ]
        return [*used, EXPECTED]

    @cached_property
    def highest(self):
        return max([month.above for month in self.columns] + [1])

    @cached_property
    def lowest(self):
        return min([month.below for month in self.columns] + [0])

    @cached_property
    def step(self):
        """Between two lines of the grid: 1, 2 or 5 times a power of ten, for about four lines."""
        size = 1
        while True:
            for factor in (1, 2, 5):
                if 4 * factor * size >= self.highest - self.lowest:
                    return factor * size
            size *= 10

    @cached_property
    def top(self):
        """The end of the axis: the first line of the grid above every bar."""
        return -(-self.highest // self.step) * self.step

    @cached_property
    def bottom(self):
        """Zero, or below it where credits were more than charges."""
        return self.lowest // self.step * self.step

    @property
    def grid(self):
        """`(y, y of the words, words)` of the lines, from the highest down; zero is the axis."""
        lines = range(self.bottom, self.top + 1, self.step)
        return [
            (self.y(line), self.y(line) - 5, money(line, self.currency).removesuffix(".00"))
            for line in reversed(lines)
            if line
        ]

    @property
    def zero(self):
        return self.y(0)

    def y(self, amount):
        height = self.top - self.bottom
        return round(BASE - (BASE - TOP) * (amount - self.bottom) / height, 1)

    @cached_property
    def bars(self):
        pitch = (WIDTH - LEFT) / len(self.columns)
        width = round(min(pitch * 0.66, LONGEST_BAR), 1)
        return [
            self._bar(
                month,
                middle=LEFT + pitch * (place + 0.5),
                width=width,
                is_second=(len(self.columns) - place) % 2 == 0,
            )
            for place, month in enumerate(self.columns)
        ]

    def _bar(self, month, *, middle, width, is_second):
        x = round(middle - width / 2, 1)
        lines = self._lines(month)
        longest = max(len(name) + len(text) for name, text in lines)
        return Bar(
            label=f"{month.first:%b}",
            name=f"{month.first:%B %Y}" + (", expected" if month.expected else ""),
            text=money(month.total, self.currency),
            lines=lines,
            rects=list(self._rects(month, x, width)),
            x=x,
            width=width,
            top=self.y(month.above),
            tip_width=max(120, 7 * longest + 36),
            middle=round(middle, 1),
            is_second=is_second,
        )

    def _rects(self, month, x, width):
        above = below = 0
        for series, amount in month.heights:
            start = above if amount > 0 else below
            high, low = self.y(max(start, start + amount)), self.y(min(start, start + amount))
            yield Rect(series, x, high, width, round(low - high, 1))
            if amount > 0:
                above += amount
            else:
                below += amount

    def _lines(self, month):
        """What a month is made of, with exact sums, its own name first."""
        lines = [(f"{month.first:%b %Y}", money(month.total, self.currency))]
        parts = [
            (SERIES[kind][0], money(month.sums[kind], self.currency))
            for kind in SERIES
            if month.sums.get(kind)
        ]
        if month.expected:
            parts.append((EXPECTED[0], money(month.expected, self.currency)))
        return lines + parts if len(parts) > 1 or month.expected else lines

    @property
    def heads(self):
        return [name for name, _ in self.series]

    @property
    def table(self):
        """`(month, sums of every series, total)`: the same in words."""
        kinds = [kind for kind in SERIES if SERIES[kind] in self.series]
        return [
            (
                f"{month.first:%B %Y}",
                [self._cell(month.sums.get(kind)) for kind in kinds] + [self._cell(month.expected)],
                money(month.total, self.currency),
            )
            for month in self.columns
        ]

    def _cell(self, amount):
        return money(amount, self.currency) if amount else "–"

    @property
    def sentence(self):
        invoiced = [month for month in self.columns if month.sums]
        day, planned = self.planned
        words = f"Expected on {day:%-d %B %Y}: {money(planned, self.currency)}."
        if not invoiced:
            return f"Nothing was invoiced yet. {words}"
        last = invoiced[-1]
        return f"Invoiced in {last.first:%B %Y}: {money(last.invoiced, self.currency)}. {words}"
