"""Templates: they compile, keep to the content policy, and draw only icons that exist."""

import re
from pathlib import Path

import pytest
from django.template.loader import get_template

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted((ROOT / "static").glob("*.js"))
NAMES = [str(path.relative_to(ROOT / "templates")) for path in TEMPLATES]
SPRITE = (ROOT / "templates/components/icons.svg").read_text()

# What `script-src 'self'; style-src 'self'` refuses, and what htmx would need eval for.
REFUSED = {
    "an inline style": r"\sstyle\s*=",
    "a style element": r"<style\b",
    "an inline script": r"<script(?![^>]*\bsrc=)",
    "an inline handler": r"\son[a-z]+\s*=",
    "hx-on": r"\shx-on",
    "a computed hx-vals": r"hx-vals=.js:",
    "a trigger filter": r"hx-trigger=\"[^\"{]*\[",
    "an address of another host": r"(?:src|href)=\"(?:https?:)?//",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_compiles(name):
    assert get_template(name)


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_a_template_keeps_to_the_content_policy(path):
    text = path.read_text()
    assert [what for what, pattern in REFUSED.items() if re.search(pattern, text)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_builds_no_code_and_no_markup_from_text(path):
    assert not re.search(
        r"\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", path.read_text()
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_every_icon_drawn_is_in_the_sprite(path):
    drawn = re.findall(r"{% icon [\"']([a-z0-9-]+)", path.read_text())
    assert [name for name in drawn if f'id="i-{name}"' not in SPRITE] == []


def test_every_icon_that_scripts_draw_is_in_the_sprite():
    drawn = re.findall(r'"((?:circle|alert|info)-[a-z]+|x)"', (ROOT / "static/portal.js").read_text())
    assert drawn
    assert [name for name in drawn if f'id="i-{name}"' not in SPRITE] == []
