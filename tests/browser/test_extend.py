"""The dialog of paid time in Chromium: what a person looks at before they say why."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.mark.parametrize(("label", "typed"), [("Hours more", "3"), ("Until, on your clock", "2026-11-23T20:00")])
def test_what_a_time_of_ones_own_costs_is_shown_before_a_reason_is_given(world, visitor, label, typed):
    page = visitor.page
    page.goto("/engines/eng_extend/")
    page.locator("#do-extend").click()
    field = page.get_by_label(label)
    field.fill(typed)
    field.press("Enter")
    expect(page.locator("dialog .quote-facts")).to_contain_text("3 h at $2.50 an hour")
    expect(page.get_by_label("Why?")).to_have_value("")
