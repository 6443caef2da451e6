"""Template filters for what every page shows: money and dates, the way `design.md` §10 wants them."""

from django import template
from django.conf import settings

register = template.Library()

SYMBOLS = {"USD": "$", "CAD": "CA$", "EUR": "€", "GBP": "£", "AUD": "A$"}

# Minor digits other than two, as Stripe counts them, which for ISK, MGA and UGX is not as ISO 4217 does.
WHOLE = [
    "BIF",
    "CLP",
    "DJF",
    "GNF",
    "JPY",
    "KMF",
    "KRW",
    "MGA",
    "PYG",
    "RWF",
    "VND",
    "VUV",
    "XAF",
    "XOF",
    "XPF",
]
IN_THOUSANDTHS = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]
DECIMALS = dict.fromkeys(WHOLE, 0) | dict.fromkeys(IN_THOUSANDTHS, 3)


@register.filter
def money(minor, currency="USD"):
    """`$1,234.50` for 123450 and "USD"; exact, with a real minus sign."""
    if minor is None:
        return ""
    decimals = DECIMALS.get(currency, 2)
    whole, rest = divmod(abs(minor), 10**decimals)
    digits = f"{whole:,}" + (f".{rest:0{decimals}d}" if decimals else "")
    symbol = SYMBOLS.get(currency, f"{currency} ")
    return f"{'−' if minor < 0 else ''}{symbol}{digits}"


@register.filter
def price(minor, currency="USD"):
    """Like `money`, with "free" for zero: for what something costs, not for a sum."""
    return "free" if minor == 0 else money(minor, currency)


@register.filter
def percent(rate):
    """`8.875%`, without zeros that say nothing."""
    return f"{float(rate):g}%"


@register.filter
def tax_words(rate):
    """`VAT 19%`, as this deployment calls its tax now; documents keep what they called it."""
    return f"{settings.TAX_NAME} {percent(rate)}"


@register.filter
def day(value):
    """`1 Dec 2026`."""
    return f"{value.day} {value:%b %Y}" if value else ""


@register.filter
def ago(at, now):
    """`5 min ago`, `3 h ago`; a day later the date. What lies ahead is a date too."""
    seconds = int((now - at).total_seconds())
    if not 0 <= seconds < 24 * 3600:
        return day(at)
    if seconds < 60:
        return "just now"
    return f"{seconds // 60} min ago" if seconds < 3600 else f"{seconds // 3600} h ago"
