"""Every kind of refusal in Chromium with the content policy enforced; as test_policy.py.

Chromium itself writes the status of a refusal to the console. Nothing else may be there.
"""

import pytest
from django.test import override_settings
from django.utils import timezone

from engines.enums import State
from portal.accounts import account
from tests.browser.conftest import elsewhere
from tests.browser.visitor import UNFOLD
from tests.security.test_roles import browser_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CHROMIUMS = "Failed to load resource: the server responded with a status of"


def test_no_refusal_breaks_the_policy(world, visitor, provider, monkeypatch):
    answers = [
        *forms(world, visitor),
        *links(world, visitor),
        *people(world, visitor),
        *trouble(world, visitor, monkeypatch),
    ]
    visitor.page.goto("/accounts/login/")
    assert [each for each in visitor.objections() if CHROMIUMS not in each] == []
    assert answers == [422, 422, 422, 409, 409, 403, 404, 403, 404, 403, 410, 403, 403, 400, 429, 500]


def answer_to(visitor, form, **words):
    with visitor.page.expect_response(lambda response: response.request.method == "POST") as answer:
        visitor.fill(form, **words)
    return answer.value.status


def forms(world, visitor):
    """Filled in wrongly, on a page and in a dialog; past a paid time; shown for another team; without their token."""
    page = visitor.page
    page.goto("/team/invite/")
    yield answer_to(visitor, visitor.form("/team/invite/"), email="ada@acme.example")
    page.goto("/engines/eng_rename/")
    page.locator("#do-rename").click()
    yield answer_to(visitor, page.locator("dialog[open] form[method=post]").last, name=" ", reason=" ")
    operation = f"/operations/{world.operations[State.STUCK].pk}/"
    page.goto(operation)
    page.locator(f'a[href="{operation}close/"]').click()
    yield answer_to(visitor, page.locator("dialog[open] form[method=post]"), reason=" ")
    page.goto("/engines/many/drain/?uid=eng_many-extend")
    page.get_by_label("longer than").select_option("1 day")
    yield answer_to(visitor, visitor.form("/engines/many/drain/"), reason="Kernel patch", despite=True)
    page.goto("/team/invite/")
    change_the_team(visitor, "second")
    yield answer_to(visitor, visitor.form("/team/invite/"), email="another@acme.example")
    change_the_team(visitor, "acme")
    page.goto("/team/invite/")
    visitor.context.clear_cookies(name="csrftoken")
    yield answer_to(visitor, visitor.form("/team/invite/"), email="another@acme.example")


def change_the_team(visitor, slug):
    tab = visitor.context.new_page()
    tab.goto("/team/")
    tab.evaluate(UNFOLD)
    visitor.fill(tab.locator('form[action="/team/switch/"]').first, button=slug)
    tab.close()


def links(world, visitor):
    """To nothing; to an invitation of somebody else, to none and to one that is over; and back from no provider."""
    link = elsewhere(lambda: world.url("join"))
    for path in ("/nowhere/", link, "/join/cut-off/", "/accounts/login/sso/back/"):
        yield visitor.page.goto(path).status
    world.invitation.revoked_at = timezone.now()
    elsewhere(world.invitation.save)
    yield visitor.page.goto(link).status


def people(world, visitor):
    """With too low a role; in no team."""
    victor = world.people["victor"]
    visitor.become(elsewhere(lambda: browser_of(victor)))
    yield visitor.page.goto("/audit/").status
    elsewhere(victor.memberships.all().delete)
    yield visitor.page.goto("/engines/").status


def trouble(world, visitor, monkeypatch):
    """A host that is not the portal's, asking too much, and what is broken."""
    ada = world.people["ada"]
    visitor.become(elsewhere(lambda: browser_of(ada)))
    with override_settings(ALLOWED_HOSTS=[]):
        yield visitor.page.goto("/engines/").status
    with override_settings(PORTAL_RATES={"read": "1/minute"}):
        visitor.page.goto("/engines/")
        yield visitor.page.goto("/engines/").status
    monkeypatch.setattr(account.own, "of", lambda user: 1 / 0)
    yield visitor.page.goto("/accounts/").status
