"""What templates say about the Engines API."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django import template

from engines.api import advice

register = template.Library()


@register.simple_tag
def went_wrong(answer: Mapping[str, Any]) -> advice.WentWrong | None:
    """Return what `components/_went_wrong.html` shows of a kept answer: to a reading, or to a key that was tried."""
    return advice.reading_went_wrong(answer)


@register.filter
def on_keys_page(wrong: advice.WentWrong | None, where: str) -> advice.WentWrong | None:
    """Return it for the Keys page itself: `where` on it a key is entered, in place of the way there."""
    if wrong is None:
        return None
    return replace(wrong, words=advice.said_there(wrong.words, where), advice=advice.said_there(wrong.advice, where))
