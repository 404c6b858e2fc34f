"""What templates say about the Engines API."""

from collections.abc import Mapping
from typing import Any

from django import template

from engines.api import advice

register = template.Library()


@register.simple_tag
def went_wrong(answer: Mapping[str, Any]) -> advice.WentWrong | None:
    """Return what `components/_went_wrong.html` shows of a kept answer: to a reading, or to a key that was tried."""
    return advice.reading_went_wrong(answer)
