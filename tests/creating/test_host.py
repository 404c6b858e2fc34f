"""A new engine on a host of one's own: its command, its key, what the log says, and the page that waits for it."""

import html
import re
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from engines.agent.package import build
from engines.api.client import EnginesClient
from engines.api.errors import ApiBusy, BadAnswer, NoAnswer, NotSent
from engines.controlplane import keys
from engines.controlplane.models import ApiKey
from engines.controlplane.models import Engine as TheirEngine
from portal.audit.models import Entry
from portal.vault.keys import Secret, store
from portal.vault.models import StoredKey
from tests.controlplane.conftest import Agent
from tests.creating.test_machine import Host
from tests.engines.conftest import dto, read

URL = "/engines/new/"


@pytest.fixture(autouse=True)
def dist(settings, tmp_path):
    """Where the control plane keeps the engine's releases."""
    settings.ENGINE_DIST_DIR = tmp_path
    return tmp_path


def form_of(browser, **words):
    page = browser.get(URL).content.decode()
    signed = {name: html.unescape(re.search(rf'name="{name}" value="([^"]+)"', page)[1]) for name in NAMES}
    return {"name": "rack-9", "reason": "the new rack", **signed, **words}


NAMES = ("connection", "ticket")


def shown(page):
    """The command or key that the page shows; None if it shows none."""
    found = re.search(r'<pre id="start-command">(.*?)</pre>', page.content.decode(), re.DOTALL)
    return html.unescape(found[1]) if found else None


def words(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.content.decode())).split())


def made():
    return ApiKey.objects.exclude(name="everything")


def told(action):
    return Entry.objects.filter(action=action).values_list("outcome", "detail__label", "detail__made_id", "reason")


def test_the_command_has_release_checksum_key_address_and_name(browser, connection, dist):
    build("v1.4.0", dist)
    command = shown(browser.post(URL, form_of(browser)))
    assert f"{connection.base_url}/dist/engine/v1.4.0/inferencesh-engine-v1.4.0-linux-amd64.tar.gz" in command
    assert (dist / "v1.4.0/checksums.txt").read_text().split()[0] in command
    assert command.endswith(f"python3 inferencesh-engine serve --api-url={connection.base_url} --name=rack-9")
    found = re.search("INFERENCE_API_KEY='([^']+)'", command)[1]
    assert keys.find(found) == made().get()


def test_the_page_says_how_the_command_is_good_for_several_hosts(browser, served, team, dist):
    build("v1.4.0", dist)
    page = browser.post(URL, form_of(browser))
    assert "paste it on each, without the --name at its end" in words(page)
    key = re.search("INFERENCE_API_KEY='([^']+)'", shown(page))[1]
    for name in ("host-1", "host-2"):
        agent = Agent(team, name=name)
        agent.register(Host(served, key))
    assert set(TheirEngine.objects.values_list("name", flat=True)) >= {"host-1", "host-2"}


def test_its_key_has_the_one_scope_that_an_engine_needs(browser):
    browser.post(URL, form_of(browser))
    assert (made().get().scopes, made().get().name) == (["engines:write"], "engine rack-9")


def test_the_log_says_who_had_which_key_made_and_why_and_not_the_key(browser, ada):
    key = shown(browser.post(URL, form_of(browser)))
    assert list(told("enginekey.asked")) == [("ok", "engine rack-9", "", "the new rack")]
    assert list(told("enginekey.made")) == [("ok", "engine rack-9", made().get().pk, "the new rack")]
    entry = Entry.objects.get(action="enginekey.made")
    assert (entry.actor, entry.detail["scopes"]) == (ada, ["engines:write"])
    assert key.startswith("inf_")
    assert not [one for one in Entry.objects.values() if key in str(one)]


def test_the_page_with_the_key_is_kept_by_no_cache(browser):
    assert browser.post(URL, form_of(browser))["Cache-Control"] == "no-store"


def test_the_same_form_sent_twice_makes_one_key(browser):
    form = form_of(browser)
    browser.post(URL, form)
    again = browser.post(URL, form)
    assert made().count() == 1
    assert "sent before, and its key was shown then" in words(again)
    assert made().get().name in words(again)


def test_a_key_that_may_make_none_is_told_what_to_do(browser, connection, ada, team, dist):
    build("v1.4.0", dist)
    poor = keys.issue(team, "everything", ["engines:read", "engines:write"])[1]
    store(user=ada, connection=connection, secret=Secret(poor), label="poor", scopes=["engines:write"])
    page = browser.post(URL, form_of(browser))
    assert "lacks the scope apikeys:write (403)" in words(page)
    assert "INFERENCE_API_KEY='YOUR_KEY'" in shown(page)
    assert "What you can do: Your key lacks a scope that this needs." in words(page)
    assert "What the API answered, word for word (keys masked) HTTP 403" in words(page)
    assert (made().count(), [one[0] for one in told("enginekey.made")]) == (0, ["refused"])
    assert StoredKey.objects.get().last_error == ""


def test_a_key_that_the_api_refuses_is_flagged(browser):
    ApiKey.objects.all().delete()
    page = browser.post(URL, form_of(browser))
    assert "refused this key (401)" in words(page)
    assert "(401)" in StoredKey.objects.get().last_error


def test_an_api_that_makes_no_keys_is_said_to(browser, monkeypatch):
    monkeypatch.setattr(keys, "issue", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("engines.api.client.KEYS", "/no-such-place")
    page = browser.post(URL, form_of(browser))
    assert "This API makes no keys on request. Make a key with the scope engines:write" in words(page)


def test_an_api_without_releases_shows_the_key_alone(browser):
    page = browser.post(URL, form_of(browser))
    assert "Nothing to start an engine with is found" in words(page)
    assert keys.find(shown(page)) == made().get()


@pytest.mark.parametrize(
    "error", [NoAnswer("No answer."), ApiBusy("Trouble.", status=502), BadAnswer("Odd.", status=200)]
)
def test_a_lost_answer_is_said_to_be_unknown_and_not_asked_again(browser, monkeypatch, error):
    asked = []

    def lose(*given, **_):
        asked.append(given)
        raise error

    monkeypatch.setattr(EnginesClient, "make_key", lose)
    page = browser.post(URL, form_of(browser))
    assert "Whether a key was made is not known. Look for “engine rack-9”" in words(page)
    assert "What you can do" not in words(page)
    assert (len(asked), told("enginekey.made")[0][0]) == (1, "unknown")


def test_what_was_never_sent_made_no_key(browser, monkeypatch):
    def unreachable(*_, **__):
        raise NotSent("It could not be reached.")

    monkeypatch.setattr(EnginesClient, "make_key", unreachable)
    assert "No key was made" in words(browser.post(URL, form_of(browser)))
    assert told("enginekey.made")[0][0] == "refused"


@pytest.mark.parametrize("text", ["inf_a'; rm -rf ~; '", "inf_$(id)", "short", "", None, 7])
def test_a_key_that_could_do_harm_in_a_shell_is_not_shown(browser, monkeypatch, team, text):
    row = keys.issue(team, "x")[0]
    monkeypatch.setattr(keys, "issue", lambda *_: (row, text))
    monkeypatch.setattr("engines.controlplane.dto.api_key", lambda row, text: {"id": row.pk, "key": text})
    page = browser.post(URL, form_of(browser))
    assert shown(page) is None
    assert "Whether a key was made is not known." in words(page)


@pytest.mark.parametrize("name", ["it's", "$(id)", "a b; c", "--help"])
def test_a_name_is_one_word_of_the_command(browser, dist, name):
    import shlex

    build("v1.4.0", dist)
    command = shown(browser.post(URL, form_of(browser, name=name)))
    assert shlex.split(command)[-1] == f"--name={name}"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "gpu-1"}, "An engine of the team has this name"),
        ({"name": "nul\x07"}, "printable characters only"),
        ({"name": ""}, "This field is required"),
        ({"reason": ""}, "This field is required"),
        ({"connection": "0"}, "Select a valid choice"),
        ({"ticket": "x"}, "This form is too old"),
    ],
)
def test_what_cannot_be_is_refused_and_no_key_is_made(browser, connection, changes, complaint):
    read(connection, dto())
    page = browser.post(URL, form_of(browser, **changes))
    assert (page.status_code, made().count()) == (422, 0)
    assert complaint in words(page)


def test_a_form_that_is_too_old_is_sent_again_with_a_fresh_ticket(browser, client_of, ada):
    form = form_of(browser)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        browser = client_of(ada)
        page = browser.post(URL, form)
        assert page.status_code == 422
        fresh = re.search(r'name="ticket" value="([^"]+)"', page.content.decode())[1]
        assert browser.post(URL, form | {"ticket": fresh}).status_code == 200


def test_a_form_of_somebody_else_is_refused(browser, monkeypatch, other_team, mallory):
    from engines.creating.forms import issue

    assert browser.post(URL, form_of(browser, ticket=issue(other_team, mallory))).status_code == 422


def test_somebody_without_a_key_is_told_to_add_one(browser):
    form = form_of(browser)
    StoredKey.objects.all().delete()
    page = browser.post(URL, form)
    assert page.status_code == 409
    assert "You have no key for this API yet" in words(page)


def test_the_page_waits_and_says_when_the_engine_is_there(browser, connection):
    page = browser.post(URL, form_of(browser))
    there = html.unescape(re.search(r'hx-get="([^"]+)"', page.content.decode())[1])
    fragment = {"HX-Request": "true", "HX-Target": "waiting"}
    assert "Waiting" in words(browser.get(there, headers=fragment))
    read(connection, dto(uid="eng_9", name="rack-9", status="pending"))
    assert "not connected yet" in words(browser.get(there, headers=fragment))
    read(connection, dto(uid="eng_9", name="rack-9"), at=timezone.now())
    arrived = browser.get(there, headers=fragment)
    assert "Connected" in words(arrived)
    assert 'href="/engines/eng_9/"' in arrived.content.decode()
    assert "hx-get" not in arrived.content.decode()


def test_without_scripts_the_same_is_a_page(browser, connection):
    page = browser.get(f"/engines/new/waiting/?connection={connection.pk}&name=rack-9")
    assert "<html" in page.content.decode()


@pytest.mark.parametrize("query", ["", "?connection=x", "?connection=99999", "?connection=99999999999999999999"])
def test_waiting_for_nothing_is_unknown(browser, query):
    assert browser.get(f"/engines/new/waiting/{query}").status_code == 404


def test_nobody_waits_at_another_teams_connection(client_of, mallory, connection):
    page = client_of(mallory).get(f"/engines/new/waiting/?connection={connection.pk}&name=rack-9")
    assert page.status_code == 404


def test_an_old_sign_in_is_confirmed_before_a_key_is_made(confirmed, ada, browser):
    old = confirmed(ada, ago=601)
    answer = old.post(URL, form_of(old))
    assert (answer.status_code, made().count()) == (409, 0)
    assert "Nothing was done: confirm that it is you first." in words(answer)
    assert "the new rack" in words(answer)
