"""Two teams in two tabs: a form does its work for the team that it was shown for, or none."""

import re
from pathlib import Path

import pytest

from portal.accounts.models import Invitation, Membership
from portal.accounts.roles import Role

pytestmark = pytest.mark.django_db
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
FORM = re.compile(r"<form\b.*?</form>", re.DOTALL)
INVITED = {"email": "nina@new.example", "role": "viewer"}


@pytest.fixture
def tabs(ada, other_team, confirmed):
    """Ada's browser: a form of Acme's open in one tab, and in another she has just changed to Mallory's team."""
    Membership.objects.create(user=ada, team=other_team, role=Role.ADMIN)
    browser = confirmed(ada)
    page = browser.get("/team/invite/").content.decode()
    fields = dict(re.findall(r'<input type="hidden" name="(on_team)" value="([^"]*)"', page))
    browser.post("/team/switch/", {"team": "mallory-inc"})
    return browser, fields


def test_a_form_of_the_former_team_does_nothing_and_says_why(tabs):
    browser, fields = tabs
    answer = browser.post("/team/invite/", INVITED | fields)
    assert answer.status_code == 409
    assert "That page was Acme's" in answer.content.decode()
    assert not Invitation.objects.exists()


def test_from_there_one_gets_back_to_it(tabs):
    browser, fields = tabs
    page = browser.post("/team/invite/", INVITED | fields).content.decode()
    assert 'name="team" value="acme"' in page
    browser.post("/team/switch/", {"team": "acme", "on_team": "mallory-inc"})
    browser.post("/team/invite/", INVITED | fields)
    assert Invitation.objects.get().team.slug == "acme"


def test_from_an_old_page_the_team_can_still_be_changed_and_oneself_signed_out(tabs):
    browser, fields = tabs
    assert browser.post("/team/switch/", {"team": "acme"} | fields)["Location"] == "/engines/"
    assert browser.post("/accounts/sessions/end-others/", fields).status_code == 302
    assert browser.post("/accounts/logout/", fields).status_code == 302


def test_the_form_of_a_team_that_one_has_left_does_nothing_either(tabs, ada):
    browser, fields = tabs
    Membership.objects.filter(user=ada, team__slug="acme").delete()
    answer = browser.post("/team/invite/", INVITED | fields)
    assert (answer.status_code, "Acme" in answer.content.decode()) == (409, False)


def test_a_page_by_script_is_loaded_anew(tabs):
    browser, fields = tabs
    for how in ({"headers": {"HX-Request": "true"}}, {"headers": {"HX-Request": "true", "X-Team": "acme"}}):
        answer = browser.post("/team/invite/", INVITED | fields, **how)
        assert (answer["HX-Refresh"], answer.content) == ("true", b"")
    assert not Invitation.objects.exists()


def posted(page):
    return [form for form in FORM.findall(page) if 'method="post"' in form]


def test_every_form_that_is_posted_says_what_it_is_for():
    pages = {path: path.read_text() for path in TEMPLATES.rglob("*.html")}
    assert [path for path, page in pages.items() if any("{% csrf_token %}" not in form for form in posted(page))] == []
    assert sum(len(posted(page)) for page in pages.values()) == sum(
        page.count('method="post"') for page in pages.values()
    )


def test_and_no_template_has_a_token_of_another_kind():
    words = ("csrfmiddlewaretoken", "csrf_input")
    assert [path.name for path in TEMPLATES.rglob("*.html") if any(word in path.read_text() for word in words)] == []
