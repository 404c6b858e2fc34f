"""What every page is made of: icons, statuses, relative times, form fields.

Plain functions that build their HTML: a fleet page calls them a thousand times.
"""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from django import template
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.forms import BoundField, CheckboxInput, Select
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

# A fleet page asks for the same few icons, statuses and counts hundreds of times.
remembered = lru_cache(maxsize=2048)


class Look(NamedTuple):
    icon: str
    tone: str  # ok, info, work, wait, bad, mute: a colour each in portal.css


# The one vocabulary of statuses: of engines, their workers, operations and audit entries.
LOOKS = {
    "running": Look("player-play", "ok"),
    "pending": Look("clock", "wait"),
    "draining": Look("droplet-down", "work"),
    "stopping": Look("player-stop", "wait"),
    "stopped": Look("power", "mute"),
    "disconnected": Look("plug-connected-x", "bad"),
    "restarting": Look("refresh", "work"),
    "deleted": Look("trash", "mute"),
    "reserved": Look("bookmark", "info"),
    "busy": Look("activity", "info"),
    "idle": Look("circle-dashed", "ok"),
    "inactive": Look("circle-off", "mute"),
    "waiting": Look("clock", "wait"),
    "requested": Look("clock", "info"),
    "checking": Look("eye", "work"),
    "sending": Look("send", "work"),
    "accepted": Look("check", "work"),
    "working": Look("progress", "work"),
    "unknown": Look("help-circle", "wait"),
    "lost_contact": Look("plug-connected-x", "bad"),
    "stuck": Look("clock-exclamation", "wait"),
    "needs_attention": Look("alert-triangle", "bad"),
    "succeeded": Look("circle-check", "ok"),
    "needs_reconfirm": Look("refresh", "wait"),
    "refused": Look("ban", "bad"),
    "failed": Look("circle-x", "bad"),
    "cancelled": Look("circle-minus", "mute"),
    "superseded": Look("arrows-exchange", "mute"),
    "ok": Look("circle-check", "ok"),
}
UNKNOWN = Look("help-circle", "mute")
MOST_PIPS = 12


@register.simple_tag
@remembered
def icon(name: str, css: str = "") -> SafeString:
    """An icon of the sprite that base.html carries. It is decoration: words stand beside it."""
    return format_html('<svg class="icon {}" aria-hidden="true"><use href="#i-{}"/></svg>', css, name)


@register.simple_tag
@remembered
def status(word: str, label: str = "") -> SafeString:
    """Icon, word and colour. A word that nobody knows is shown as it came."""
    look = LOOKS.get(word, UNKNOWN)
    shown = label or (word.replace("_", " ").capitalize() if word in LOOKS else word) or "unknown"
    return format_html(
        '<span class="state tone-{}"><svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>{}</span>',
        look.tone,
        look.icon,
        shown,
    )


@register.simple_tag
def tone(word: str) -> str:
    return f"tone-{LOOKS.get(word, UNKNOWN).tone}"


@register.simple_tag
@remembered
def status_icon(word: str) -> SafeString:
    return icon(LOOKS.get(word, UNKNOWN).icon)


@register.simple_tag
def ago(value: datetime | str | None, style: str = "ago") -> SafeString:
    """How long ago ("ago"), for how long by now ("for"), or until when ("left"). The exact time is one hover
    or focus away. portal.js keeps the words current by the same rules."""
    moment = parse_datetime(value) if isinstance(value, str) else value
    if moment is None:
        return format_html('<span class="text-secondary">{}</span>', "never" if style == "ago" else "–")
    age = timezone.now() - moment
    over = " is-over" if style == "left" and age >= timedelta(0) else ""
    # Nothing in it comes from outside: numbers, and a word of ours.
    return SafeString(
        f'<time class="when{over}" tabindex="0" data-style="{style}" datetime="{moment.isoformat(timespec="seconds")}"'
        f' data-exact="{exact(moment)}">{relative(age, style)}</time>'
    )


@register.filter
def exact(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def relative(age: timedelta, style: str) -> str:
    seconds = int(age.total_seconds())
    if style == "for":
        return span(max(seconds, 0), fine=True)
    if style == "left":
        return f"{span(-seconds)} left" if seconds < 0 else f"{span(seconds)} over"
    if seconds < 0:
        return f"in {span(-seconds)}"
    return f"{rough(seconds)} ago" if seconds >= 3 else "just now"


def rough(seconds: int) -> str:
    return " ".join(span(seconds).split()[:2])


def span(seconds: int, *, fine: bool = False) -> str:
    """In the largest unit, and the next one where the first alone would be rough. `fine` keeps seconds longer."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 60:
        return f"{seconds} s"
    if fine and minutes < 10:
        return two(minutes, "min", seconds % 60, "s")
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return two(hours, "h", minutes % 60, "min")
    return two(days, "d", hours % 24 if days < 10 else 0, "h")


def two(whole: int, unit: str, rest: int, rest_unit: str) -> str:
    return f"{whole} {unit} {rest} {rest_unit}" if rest else f"{whole} {unit}"


@register.simple_tag
def duration(start: datetime, end: datetime) -> str:
    return span(max(int((end - start).total_seconds()), 0), fine=True)


@register.simple_tag
@remembered
def pips(busy: int, total: int) -> SafeString:
    """One dot per worker, filled where it is busy; a bar where dots would be too many. Words say the same."""
    words = format_html('<span class="pips-words">{} of {} busy</span>', busy, total)
    if total > MOST_PIPS:
        return format_html('<progress class="meter" value="{}" max="{}"></progress>{}', busy, total, words)
    dots = format_html_join("", '<i class="pip{}"></i>', ((" is-busy" if n < busy else "",) for n in range(total)))
    return format_html('<span class="pips" aria-hidden="true">{}</span>{}', dots, words)


@register.filter
def control(field: BoundField, css: str = "") -> SafeString:
    """The field's widget, dressed. Django adds aria-invalid and aria-describedby by itself."""
    widget = field.field.widget
    if isinstance(widget, CheckboxInput):
        kind = "form-check-input"
    else:
        kind = "form-select" if isinstance(widget, Select) else "form-control"
    wrong = " is-invalid" if field.errors else ""
    return field.as_widget(attrs={"class": f"{kind}{wrong} {css}".strip()})


@register.simple_tag
def as_json(value: object) -> str:
    """Return the value as JSON, for a data attribute: pages hold no scripts."""
    return json.dumps(value, cls=DjangoJSONEncoder)


@register.filter
def less(number: int, other: int) -> int:
    """Return the rest of a count."""
    return number - other


@register.filter
def dollars(microcents: int) -> str:
    """Return an amount of whole microcents as people read it, exact to the last digit."""
    cents, rest = divmod(abs(microcents), 1_000_000)
    more = f"{rest:06d}".rstrip("0")
    return f"{'−' if microcents < 0 else ''}${cents // 100:,}.{cents % 100:02d}{more}"


@register.simple_tag
def both_clocks(moment: datetime, zone: tzinfo) -> str:
    """Return the time on the viewer's clock with UTC beside it, for sentences."""
    there = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    shown = local(moment, zone)
    return there if shown.endswith(" UTC") else f"{shown} ({there})"


@register.simple_tag
def local(moment: datetime, zone: tzinfo) -> str:
    """Return the time on the viewer's clock, to the minute; a hint of the zone only where it is not UTC."""
    shown = moment.astimezone(zone)
    return f"{shown:%a %d %b %H:%M}" + (f" {shown:%Z}" if shown.tzname() else "")


@register.simple_tag
def single_sign_on() -> str:
    """Return what the single sign-on provider is called, "" if there is none."""
    return settings.OIDC_NAME if settings.OIDC_SERVER_URL else ""
