"""The parts of pages: one look for every status there is, times in words, fields that say what is wrong."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django import forms
from django.utils import timezone

from engines.enums import EngineStatus, State, WorkerStatus
from portal.audit.models import Entry
from portal.templatetags import portal_ui

ROOT = Path(__file__).parents[2]
WORDS = [*EngineStatus.values, *WorkerStatus.values, *State.values, *Entry.Outcome.values]
SPRITE = (ROOT / "templates/components/icons.svg").read_text()
STYLES = (ROOT / "static/portal.css").read_text()


@pytest.mark.parametrize("word", WORDS)
def test_every_status_has_an_icon_and_a_colour(word):
    look = portal_ui.LOOKS[word]
    assert f'id="i-{look.icon}"' in SPRITE
    assert f".tone-{look.tone} " in STYLES


def test_a_status_is_an_icon_and_a_word_and_a_colour():
    shown = portal_ui.status("needs_attention")
    assert 'class="state tone-bad"' in shown
    assert "#i-alert-triangle" in shown
    assert shown.endswith("Needs attention</span>")


def test_a_status_that_nobody_knows_is_shown_as_it_came():
    assert ">Upgrading_firmware &lt;b&gt;</span>" in portal_ui.status("Upgrading_firmware <b>")


def test_a_label_replaces_the_word():
    assert portal_ui.status("working", "In progress").endswith("In progress</span>")


@pytest.mark.parametrize(
    ("seconds", "style", "words"),
    [
        (0, "ago", "just now"),
        (59, "ago", "59 s ago"),
        (100, "ago", "1 min ago"),
        (3 * 3600 + 120, "ago", "3 h ago"),
        (-90, "ago", "in 1 min"),
        (100, "for", "1 min 40 s"),
        (120, "for", "2 min"),
        (3600 + 600, "for", "1 h 10 min"),
        (-5, "for", "0 s"),
        (-6300, "left", "1 h 45 min left"),
        (300, "left", "5 min over"),
        (2 * 86400 + 3600, "for", "2 d 1 h"),
        (20 * 86400 + 3600, "for", "20 d"),
    ],
)
def test_times_are_told_in_words(seconds, style, words):
    assert portal_ui.relative(timedelta(seconds=seconds), style) == words


def test_a_time_carries_its_exact_moment():
    moment = timezone.now().replace(year=2026, month=3, day=1, hour=4, minute=5, second=6, microsecond=0)
    shown = portal_ui.ago(moment)
    assert 'datetime="2026-03-01T04:05:06+00:00"' in shown
    assert 'data-exact="2026-03-01 04:05:06 UTC"' in shown


def test_a_time_read_from_json_is_a_time_too():
    assert "<time" in portal_ui.ago("2026-03-01T04:05:06+00:00")


@pytest.mark.parametrize("nothing", [None, "", "not a time"])
def test_no_time_is_no_time(nothing):
    assert "never" in portal_ui.ago(nothing)


def test_workers_are_dots_and_words():
    shown = portal_ui.pips(2, 3)
    assert shown.count("is-busy") == 2
    assert "2 of 3 busy" in shown


def test_many_workers_are_a_bar():
    assert '<progress class="meter" value="11" max="16">' in portal_ui.pips(11, 16)


class Form(forms.Form):
    reason = forms.CharField(help_text="Kept.")


def test_a_field_with_an_error_says_so_to_everybody():
    shown = portal_ui.control(Form({"reason": ""})["reason"])
    assert 'aria-invalid="true"' in shown
    assert "is-invalid" in shown
    assert re.search(r'aria-describedby="[^"]*id_reason_helptext', shown)
