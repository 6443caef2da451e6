"""What the Content-Security-Policy and the weight of a page ask of every template and static file."""

import gzip
import re

import pytest
from django.conf import settings

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
INLINE_CODE = re.compile(
    r"\sstyle\s*=|<style|\son[a-z]+\s*=|\shx-on|javascript:|\sjs:|<script(?![^>]*\ssrc=)",
    re.IGNORECASE,
)
FOREIGN = re.compile(r"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//", re.IGNORECASE)


def name(path):
    return str(path.relative_to(settings.BASE_DIR))


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_template_carries_no_inline_code_and_nothing_foreign(path):
    text = re.sub(r"\{#.*?#\}", "", path.read_text())
    assert INLINE_CODE.findall(text) == []
    assert FOREIGN.findall(text) == []


@pytest.mark.parametrize(
    "markup",
    ['<p style="color:red">', '<a onclick="x()">', "<script>x()</script>", '<b hx-on:click="x()">'],
)
def test_inline_code_would_be_noticed(markup):
    assert INLINE_CODE.search(markup)


def test_styles_and_script_stay_light():
    weights = {
        path.name: len(gzip.compress(path.read_bytes()))
        for kind in ("css", "js")
        for path in (settings.BASE_DIR / "static" / kind).iterdir()
    }
    assert set(weights) == {"tokens.css", "site.css", "site.js"}
    assert sum(weights.values()) <= 20_000
    assert (settings.BASE_DIR / "static/js/site.js").stat().st_size <= 12 * 1024


def test_colours_are_named_in_one_place():
    rules = (settings.BASE_DIR / "static/css/site.css").read_text()
    assert (
        re.findall(r"#[0-9a-f]{3,8}\b(?=[;, )])|\b(?:rgba?|hsla?|oklch|light-dark)\(", rules) == []
    )
