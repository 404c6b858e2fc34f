"""What templates say about the Engines API."""

from collections.abc import Mapping
from typing import Any

from django import template

from engines.api import advice

register = template.Library()


@register.simple_tag
def went_wrong(answer: Mapping[str, Any]) -> advice.WentWrong | None:
    """Return what `components/_went_wrong.html` shows of an answer that was kept."""
    return advice.went_wrong(answer)
