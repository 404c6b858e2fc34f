"""Sessions: they end by themselves, their person sees them all and ends each, and proving who one is renames them."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from portal.accounts.agents import device
from portal.audit.models import Entry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
START = "2030-01-01T00:00Z"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/18.0 Mobile Safari/604.1"


@pytest.fixture
def clock():
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def signed_in(user, agent=FIREFOX, address="127.0.0.1"):
    client = Client(REMOTE_ADDR=address, headers={"User-Agent": agent})
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    return client


def is_in(client, **headers):
    return client.get("/engines/", headers=headers).status_code == 200


def test_half_an_hour_of_nothing_ends_it(olga, clock):
    client = signed_in(olga)
    clock.shift(timedelta(minutes=30, seconds=1))
    assert not is_in(client)


def test_each_page_that_is_asked_for_keeps_it_going(olga, clock):
    client = signed_in(olga)
    for _ in range(3):
        clock.shift(timedelta(minutes=29))
        assert is_in(client)


def test_nothing_keeps_it_going_beyond_twelve_hours(olga, clock):
    client = signed_in(olga)
    for _ in range(36):
        clock.shift(timedelta(minutes=19, seconds=59))
        assert is_in(client)
    clock.shift(timedelta(seconds=37))
    assert not is_in(client)


def test_what_is_saved_in_it_on_the_way_does_not_prolong_it(olga, clock, acme):
    client = signed_in(olga)
    clock.shift(timedelta(hours=11, minutes=59))
    Session.objects.update(expire_date=timezone.now() + timedelta(minutes=1))
    session = client.session
    session.set_expiry(timezone.now() + timedelta(minutes=1))
    session.save()
    client.post("/team/switch/", {"team": acme.slug})
    assert Session.objects.get().expire_date == timezone.now() + timedelta(minutes=1)


def test_a_page_that_updates_itself_is_no_sign_of_anybody(olga, clock):
    client = signed_in(olga)
    for _ in range(31):
        clock.shift(timedelta(minutes=1))
        going_on = is_in(client, **{"X-Background": "1"})
    assert not going_on


def test_a_fragment_of_an_ended_session_moves_the_whole_page_to_sign_in_and_back(olga, clock):
    client = signed_in(olga)
    clock.shift(timedelta(minutes=31))
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/engines/?q=gpu", "X-Background": "1"}
    answer = client.get("/engines/", headers=headers)
    assert answer["HX-Redirect"] == "/accounts/login/?next=%2Fengines%2F%3Fq%3Dgpu"


def test_a_session_from_before_there_were_clocks_gets_them(olga, clock):
    client = signed_in(olga)
    session = client.session
    del session["started"]
    session.set_expiry(None)
    session.save()
    assert is_in(client)
    assert Session.objects.get().expire_date == timezone.now() + timedelta(minutes=30)


def page_of(client):
    return client.get("/accounts/").content.decode()


def places(client):
    return [(one.device, one.session.ip, one.here) for one in client.get("/accounts/").context["sessions"]]


def test_the_account_page_lists_own_sessions_this_one_first(olga, victor):
    signed_in(victor)
    phone, desk = signed_in(olga, IPHONE, "198.51.100.7"), signed_in(olga)
    assert places(desk) == [("Firefox on Linux", "127.0.0.1", True), ("Safari on iPhone", "198.51.100.7", False)]
    assert [here for _, _, here in places(phone)] == [True, False]


def test_it_says_since_when_and_when_last_seen(olga, clock):
    client = signed_in(olga)
    clock.shift(timedelta(minutes=20))
    session = client.get("/accounts/").context["sessions"][0].session
    assert session.last_seen_at - session.created_at == timedelta(minutes=20)


def test_ended_sessions_are_not_listed(olga, clock):
    signed_in(olga)
    clock.shift(timedelta(minutes=31))
    assert len(places(signed_in(olga))) == 1


def test_the_page_holds_no_session_s_name(olga):
    phone, desk = signed_in(olga), signed_in(olga)
    assert phone.session.session_key not in page_of(desk)
    assert desk.session.session_key not in page_of(desk)


def other(client):
    return next(one.session.pk for one in client.get("/accounts/").context["sessions"] if not one.here)


def test_one_session_is_ended_from_another(olga):
    phone, desk = signed_in(olga, IPHONE), signed_in(olga)
    desk.post(f"/accounts/sessions/{other(desk)}/end/")
    assert not is_in(phone)
    assert is_in(desk)


def test_all_others_are_ended_at_once(olga, victor):
    others, desk, foreign = [signed_in(olga), signed_in(olga)], signed_in(olga), signed_in(victor)
    desk.post("/accounts/sessions/end-others/")
    assert [is_in(one) for one in (*others, desk, foreign)] == [False, False, True, True]


def test_nobody_ends_somebody_else_s(olga, victor):
    stranger = signed_in(victor)
    number = stranger.get("/accounts/").context["sessions"][0].session.pk
    assert signed_in(olga).post(f"/accounts/sessions/{number}/end/").status_code == 404
    assert is_in(stranger)


def test_ending_one_is_audited_with_where_it_was(olga):
    signed_in(olga, IPHONE, "198.51.100.7")
    signed_in(olga).post("/accounts/sessions/end-others/")
    entry = Entry.objects.get(action="session.ended")
    assert entry.reason == "signed out: from another session (Safari on iPhone, 198.51.100.7)"


def confirm(client):
    return client.post("/accounts/confirm/", {"password": PASSWORD})


def test_confirming_renames_the_session_and_the_old_name_opens_nothing(olga):
    client = signed_in(olga)
    thief = Client()
    thief.cookies["sessionid"] = client.session.session_key
    confirm(client)
    assert is_in(client)
    assert not is_in(thief)
    assert len(places(client)) == 1


def test_a_changed_password_leaves_the_session_as_old_as_it_was(olga, clock):
    client = signed_in(olga)
    clock.shift(timedelta(minutes=20))
    new = "seventeen purple kettles"
    client.post("/accounts/password/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    (place,) = client.get("/accounts/").context["sessions"]
    assert timezone.now() - place.session.created_at == timedelta(minutes=20)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Safari on iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) AppleWebKit/537.36 Chrome/140 Safari/537.36",
            "Chrome on macOS",
        ),
        ("curl/8", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_named_in_words(agent, words):
    assert device(agent) == words
