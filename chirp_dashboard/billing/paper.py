"""A `Document` on paper: A4 pages as PDF, the same bytes every time.

Fira Sans writes Latin, Greek and Cyrillic; only the letters used are embedded. Chinese, Japanese and
Korean are named by their standard fonts and drawn by whatever reads the file. What neither has stands as
▯, with a note that says where it is shown.
"""

import unicodedata
from datetime import UTC
from functools import cache
from importlib.resources import files
from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from chirp_dashboard.organizations.templatetags.ui import money

LAYOUT = 2
"""Raised when anything changes that the same document is drawn with, so that no cache keeps the old one."""

WIDTH, HEIGHT = A4
LEFT, RIGHT, TOP, BOTTOM = 57, WIDTH - 57, HEIGHT - 57, 68
MIDDLE, LABEL = 318, 60  # where the right half begins, and how wide the names in it are
LEADING = 1.4
TINY, SMALL, BODY, HEADING, TITLE = 5.5, 8, 9, 11, 20
GREY = (0.42, 0.42, 0.45)
LINE = (0.82, 0.82, 0.84)
REGULAR, BOLD = "Regular", "Bold"
MISSING = "▯"

# The first encoding that knows a piece of text decides which standard font draws it.
EAST_ASIAN = {
    "shift_jis": "HeiseiKakuGo-W5",
    "gb2312": "STSong-Light",
    "big5": "MSung-Light",
    "euc_kr": "HYGothic-Medium",
}

NUMBER, CHARGE, FOR = LEFT, LEFT + 125, LEFT + 215  # where the columns of a line begin
FOR_WIDTH = RIGHT - FOR - 75


@cache
def glyphs():
    """The characters of Fira Sans; registers the fonts the first time."""
    for weight in (REGULAR, BOLD):
        path = files("fontpkg_fira_sans") / "files" / f"FiraSans-{weight}.ttf"
        pdfmetrics.registerFont(TTFont(weight, str(path)))
    for font in EAST_ASIAN.values():
        pdfmetrics.registerFont(UnicodeCIDFont(font))
    return frozenset(map(chr, pdfmetrics.getFont(REGULAR).face.charToGlyph))


def printable(text):
    """`text` in one line: composed letters, ordinary spaces, nothing that cannot be seen."""
    text = unicodedata.normalize("NFC", str(text))
    text = "".join(" " if c.isspace() else c for c in text)
    return "".join(
        c for c in text if unicodedata.category(c) not in {"Cc", "Cf", "Mn", "Me"} or c in glyphs()
    )


def runs(text, font):
    """`(font, text)` pieces that can be drawn one after the other."""
    known = glyphs()
    if text.isascii() or known.issuperset(text):
        return [(font, text)]
    pieces = []
    for letter in text:
        drawn_with = font if letter in known else east_asian(letter, pieces)
        letter = letter if drawn_with else MISSING
        drawn_with = drawn_with or font
        if pieces and pieces[-1][0] == drawn_with:
            pieces[-1][1] += letter
        else:
            pieces.append([drawn_with, letter])
    return pieces


def east_asian(letter, pieces):
    """The font for `letter`: the one that draws what stands before it, if that has it too."""
    able = [font for encoding, font in EAST_ASIAN.items() if can_encode(letter, encoding)]
    before = pieces[-1][0] if pieces else None
    return before if before in able else next(iter(able), None)


def can_encode(letter, encoding):
    try:
        return len(letter.encode(encoding)) == 2
    except UnicodeEncodeError:
        return False


def width_of(text, font, size):
    return sum(pdfmetrics.stringWidth(piece, name, size) for name, piece in runs(text, font))


def wrapped(text, width, size, font=REGULAR):
    """The lines of `text` that fit into `width`; a word too long for one is broken."""
    lines = [""]
    for word in printable(text).split():
        joined = f"{lines[-1]} {word}".strip()
        if width_of(joined, font, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and width_of(lines[-1] + letter, font, size) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def size_for(text, width):
    """The size, from BODY down to TINY, at which no word of `text` is broken in `width`: ids are copied whole."""
    widest = max((width_of(word, REGULAR, BODY) for word in printable(text).split()), default=0)
    return max(TINY, min(BODY, BODY * (width - 0.01) / widest)) if widest else BODY


def drawn(document):
    """The PDF of `document`, as bytes."""
    glyphs()
    out = BytesIO()
    Paper(document, out).draw()
    return out.getvalue()


class Paper:
    """Draws from top to bottom; `y` is where the next thing goes."""

    def __init__(self, document, out):
        self.document, self.invoice = document, document.invoice
        self.canvas = Canvas(out, pagesize=A4, invariant=1, pageCompression=1, lang="en")
        self.canvas.setTitle(self.invoice.title)
        self.canvas.setAuthor(self.invoice.seller.get("name", ""))
        self.canvas.setSubject(f"{self.invoice.title} for {self.invoice.buyer.get('name', '')}")
        self.canvas.setCreator("")
        self.canvas.setProducer("")
        issued = self.invoice.created_at.astimezone(UTC)
        self.canvas.setDateFormatter(lambda *now: f"{issued:D:%Y%m%d%H%M%SZ}")
        self.y = TOP
        self.misses = False

    def draw(self):
        self.head()
        if self.document.has_every_line:
            self.lines()
        else:
            self.sums()
        self.totals()
        self.notes()
        self.end_page()
        self.canvas.beginForm("pages")
        self.text(0, 0, self.canvas.getPageNumber() - 1, size=SMALL, colour=GREY)
        self.canvas.endForm()
        self.canvas.save()

    # Pieces

    def text(self, x, y, text, *, size=BODY, font=REGULAR, colour=(0, 0, 0), right=False):
        """One line of text, beginning (or, `right`, ending) at x; returns how wide it is."""
        text = printable(text)
        width = width_of(text, font, size)
        at = x - width if right else x
        self.canvas.setFillColorRGB(*colour)
        for name, piece in runs(text, font):
            self.canvas.setFont(name, size)
            self.canvas.drawString(at, y, piece)
            at += pdfmetrics.stringWidth(piece, name, size)
            self.misses = self.misses or (MISSING in piece)
        return width

    def rule(self, y, left=LEFT):
        self.canvas.setStrokeColorRGB(*LINE)
        self.canvas.setLineWidth(0.5)
        self.canvas.line(left, y, RIGHT, y)

    def block(self, lines, *, size=BODY, first=REGULAR, x=LEFT, width=RIGHT - LEFT, top=None):
        """Lines of text below each other, wrapped; returns where they end."""
        y = self.y if top is None else top
        for place, line in enumerate(lines):
            font = first if place == 0 else REGULAR
            for part in wrapped(line, width, size, font):
                y -= size * LEADING
                self.text(x, y, part, size=size, font=font)
        return y

    def room(self, height):
        """Go to a new page unless `height` is left on this one; whether it did."""
        if self.y - height >= BOTTOM:
            return False
        self.end_page()
        self.y = TOP
        return True

    def end_page(self):
        seller = self.invoice.seller.get("name", "")
        page = f"Page {self.canvas.getPageNumber()} of "
        self.rule(BOTTOM - 14)
        y = BOTTOM - 28
        [said] = wrapped(f"{self.invoice.title} · {seller}", RIGHT - LEFT - 90, SMALL)[:1]
        self.text(LEFT, y, said, size=SMALL, colour=GREY)
        at = RIGHT - 75
        wide = self.text(at, y, page.rstrip(), size=SMALL, colour=GREY)
        self.canvas.saveState()
        self.canvas.translate(at + wide + 2, y)
        self.canvas.doForm("pages")
        self.canvas.restoreState()
        self.canvas.showPage()

    # Parts

    def head(self):
        half = MIDDLE - LEFT - 24
        self.text(MIDDLE, TOP - TITLE, self.invoice.get_kind_display(), size=TITLE, font=BOLD)
        self.text(MIDDLE, TOP - TITLE - 18, f"{self.invoice.number:06d}", size=HEADING, colour=GREY)
        left = self.block(self.document.seller, first=BOLD, width=half)
        self.y = min(left, TOP - TITLE - 18) - 28
        self.text(LEFT, self.y, "For", size=SMALL, colour=GREY)
        left = self.block(self.document.buyer, first=BOLD, width=half, top=self.y - 2)
        right = self.y + BODY * LEADING
        room = RIGHT - MIDDLE - LABEL
        for name, value in self.document.facts:
            size = size_for(value, room)
            for place, part in enumerate(wrapped(value, room, size)):
                right -= BODY * LEADING
                if place == 0:
                    self.text(MIDDLE, right, name, colour=GREY)
                self.text(MIDDLE + LABEL, right, part, size=size)
        self.y = min(left, right) - 32

    def columns(self):
        """The heads of the columns of the lines."""
        self.text(NUMBER, self.y, "Number", size=SMALL, colour=GREY)
        self.text(CHARGE, self.y, "Charge", size=SMALL, colour=GREY)
        self.text(FOR, self.y, "For", size=SMALL, colour=GREY)
        self.text(RIGHT, self.y, self.invoice.currency, size=SMALL, colour=GREY, right=True)
        self.y -= 6
        self.rule(self.y)

    def lines(self):
        self.columns()
        for number, charge, what_for, amount in self.document.lines():
            parts = wrapped(what_for, FOR_WIDTH, BODY) if what_for else [""]
            height = len(parts) * BODY * LEADING + 4
            if self.room(height):
                self.columns()
            y = self.y - BODY - 3
            self.text(NUMBER, y, number or "–")
            self.text(CHARGE, y, charge)
            self.text(RIGHT, y, money(amount, self.invoice.currency), right=True)
            for place, part in enumerate(parts):
                self.text(FOR, y - place * BODY * LEADING, part)
            self.y -= height

    def sums(self):
        """What the lines come to by type and charge, where they are too many to print."""
        self.text(NUMBER, self.y, "Type of number", size=SMALL, colour=GREY)
        self.text(CHARGE, self.y, "Charge", size=SMALL, colour=GREY)
        self.text(FOR + 60, self.y, "Lines", size=SMALL, colour=GREY, right=True)
        self.text(RIGHT, self.y, self.invoice.currency, size=SMALL, colour=GREY, right=True)
        self.y -= 6
        self.rule(self.y)
        for number_type, charge, count, amount in self.document.sums:
            self.room(BODY * LEADING + 4)
            y = self.y - BODY - 3
            self.text(NUMBER, y, number_type)
            self.text(CHARGE, y, charge)
            self.text(FOR + 60, y, f"{count:,}", right=True)
            self.text(RIGHT, y, money(amount, self.invoice.currency), right=True)
            self.y -= BODY * LEADING + 4

    def totals(self):
        rows = self.document.totals
        self.room(len(rows) * 18 + 12)
        self.y -= 6
        self.rule(self.y)
        for place, (name, sum) in enumerate(rows):
            is_total = place == len(rows) - 1
            size, font = (HEADING, BOLD) if is_total else (BODY, REGULAR)
            self.y -= 18
            self.text(MIDDLE, self.y, name, size=size, font=font)
            self.text(RIGHT, self.y, sum, size=size, font=font, right=True)
        self.y -= 12

    def notes(self):
        said = [self.document.payment_words, *self.document.bank.splitlines()]
        if not self.document.has_every_line:
            said += [
                "",
                f"The {self.invoice.line_count:,} lines are in the CSV file on the page below.",
            ]
        said += ["", f"What became of it since: {self.document.address}"]
        if self.misses or any(
            MISSING in piece for line in said for _, piece in runs(printable(line), REGULAR)
        ):
            said.append(f"{MISSING} stands for a letter that this PDF cannot show; that page does.")
        lines = [part for line in said for part in (wrapped(line, RIGHT - LEFT, BODY) or [""])]
        self.room(len(lines) * BODY * LEADING + 12)
        self.y = self.block(lines) - 12
