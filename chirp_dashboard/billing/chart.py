"""Bars of money by month, as places in a drawing 520 wide."""

from dataclasses import dataclass

from chirp_dashboard.organizations.templatetags.ui import money

WIDTH, TOP, BASE = 520, 24, 176
LEFT = 60  # for the words of the axis


@dataclass(frozen=True)
class Bar:
    label: str
    name: str
    text: str
    x: float
    y: float
    width: float
    height: float
    is_planned: bool = False

    @property
    def middle(self):
        return self.x + self.width / 2


@dataclass(frozen=True)
class Chart:
    """`months` are `(first day, sum)`; `planned`, if given, is `(day, sum)` of what comes next."""

    months: list
    planned: tuple
    currency: str

    @property
    def is_empty(self):
        return not any(amount for _, amount in [*self.months, self.planned])

    @property
    def top(self):
        """The end of the axis: the next 1, 2 or 5 times a power of ten above every bar."""
        highest = max([amount for _, amount in [*self.months, self.planned]] + [1])
        step = 1
        while True:
            for factor in (1, 2, 5):
                if factor * step >= highest:
                    return factor * step
            step *= 10

    @property
    def grid(self):
        """`(y, words)` of the lines, from the highest down."""
        return [
            (round(self.y(part), 1), money(part, self.currency).removesuffix(".00"))
            for part in (self.top, self.top // 2)
            if part
        ]

    def y(self, amount):
        return BASE - (BASE - TOP) * max(amount, 0) / self.top

    @property
    def bars(self):
        columns = len(self.months) + 1
        pitch = (WIDTH - LEFT) / columns
        rows = [(day, amount, False) for day, amount in self.months] + [(*self.planned, True)]
        return [
            Bar(
                label=f"{day:%b}",
                name=f"{day:%B %Y}" + (", forecast" if is_planned else ""),
                text=money(amount, self.currency),
                x=round(LEFT + place * pitch + pitch * 0.15, 1),
                y=round(self.y(amount), 1),
                width=round(pitch * 0.7, 1),
                height=round(BASE - self.y(amount), 1),
                is_planned=is_planned,
            )
            for place, (day, amount, is_planned) in enumerate(rows)
        ]

    @property
    def sentence(self):
        last, amount = self.months[-1]
        day, planned = self.planned
        return (
            f"Invoiced in {last:%B %Y}: {money(amount, self.currency)}. "
            f"Expected in {day:%B %Y}: {money(planned, self.currency)}."
        )
