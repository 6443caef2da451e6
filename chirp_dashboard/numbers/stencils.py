"""Table rows from a template without running the template for each of them.

Django's engine takes about a tenth of a millisecond for a row of the number list: half of a page of
fifty. Rows differ mostly in their words. So the template runs once for each shape of row, with a gap
in the place of every word, and all rows of that shape are printed through the stencil it leaves.
"""

from html import escape

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

KEPT = 1_000
_stencils = {}


def print_rows(template, rows, **given):
    """`template` for each of `rows`, one after the other; in it, the row is called `row`.

    A row is a dict of texts, booleans, and lists of dicts of texts that are never empty; so is each
    dict in `given`, which the template sees under its own name.
    """
    words = {}
    for name, value in given.items():
        words |= _words(name, value)
    frame = tuple((name, *_shape(value)) for name, value in given.items())
    printed = []
    for row in rows:
        key = template, _shape(row), frame
        stencil = _stencils.get(key)
        if stencil is None:
            stencil = _cut(template, {"row": row, **given})
            if (
                not settings.DEBUG and len(_stencils) < KEPT
            ):  # else an edited template would not show
                _stencils[key] = stencil
        printed.append(stencil.format_map(words | _words("row", row)))
    return SafeString("".join(printed))


def _cut(template, pattern):
    """The template drawn with gaps for the words of `pattern`, ready for `str.format_map`."""
    gaps = {name: _gaps(name, value) for name, value in pattern.items()}
    return render_to_string(template, gaps)


def _shape(values):
    """What decides how a row is drawn: which texts there are, and how many parts, but not their words."""
    if not isinstance(values, dict):
        return (values,)
    return tuple(
        [len(value) if value.__class__ is list else bool(value) for value in values.values()]
    )


def _gaps(name, value):
    if isinstance(value, dict):
        return {key: _gaps(f"{name}_{key}", part) for key, part in value.items()}
    if isinstance(value, list):
        return [_gaps(f"{name}_{index}", part) for index, part in enumerate(value)]
    if isinstance(value, str):
        return SafeString(f"{{{name}}}") if value else ""
    return value


def _words(name, values):
    words = {}
    if not isinstance(values, dict):
        return words
    for key, value in values.items():
        if value.__class__ is str:
            words[f"{name}_{key}"] = escape(value)
        elif value.__class__ is list:
            for index, part in enumerate(value):
                for inner, text in part.items():
                    words[f"{name}_{key}_{index}_{inner}"] = escape(text)
    return words
