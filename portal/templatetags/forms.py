"""`{% csrf_token %}` as it is in every template here: beside Django's field, the team that the form was shown for.

It takes the place of Django's tag (settings.TEMPLATES), so that no form can lack it.
"""

from django import template
from django.template.context import Context
from django.template.defaulttags import CsrfTokenNode
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def csrf_token(context: Context) -> SafeString:
    team = getattr(context.get("request"), "team", None)
    own = format_html('<input type="hidden" name="on_team" value="{}">', team.slug) if team else ""
    return format_html("{}{}", CsrfTokenNode().render(context), own)
