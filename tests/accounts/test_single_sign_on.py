"""Single sign-on: who the provider vouches for gets in, by what it calls them and never by an e-mail address."""

import html
import re
import time

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from joserfc.jwk import RSAKey

from portal import env
from portal.accounts.models import Identity, Invitation, Membership, User
from portal.audit.models import Entry
from tests.accounts.identity_provider import CLIENT, IdentityProvider
from tests.security.test_requests import ELSEWHERE, stays_here

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(settings):
    provider = IdentityProvider()
    provider.set_up(settings)
    yield provider
    provider.stop()


def linked(user, provider):
    return Identity.objects.create(user=user, issuer=provider.url, subject=provider.person["sub"])


def way(browser, path, **form):
    """Where the browser is led by that form."""
    page = browser.post(path, form).content.decode()
    return html.unescape(re.search(r'content="0; url=([^"]+)"', page)[1])


def go(browser, provider, path="/accounts/login/sso/", **form):
    """Send the form, show the provider who one is, and return the portal's answer."""
    return browser.get(provider.visit(way(browser, path, **form)))


def is_in(browser):
    return browser.get("/engines/").status_code == 200


def entries():
    return list(Entry.objects.order_by("number").values_list("action", "outcome"))


def why(answer):
    assert answer.status_code == 403
    return answer.content.decode()


def test_a_linked_person_is_signed_in(client, provider, olga):
    linked(olga, provider)
    assert go(client, provider)["Location"] == "/engines/"
    assert is_in(client)
    assert entries() == [("session.started", "ok")]


def test_they_get_to_the_page_that_they_wanted(client, provider, olga):
    linked(olga, provider)
    assert go(client, provider, next="/operations/?q=1")["Location"] == "/operations/?q=1"


def test_and_never_to_another_site(provider, olga):
    linked(olga, provider)
    led = {target: go(Client(), provider, next=target)["Location"] for target in ELSEWHERE}
    assert {target: where for target, where in led.items() if not stays_here(where)} == {}
    assert go(Client(), provider, next="https://evil.example/")["Location"] == "/engines/"


def test_confirming_there_leads_to_no_other_site_either(provider, olga, client_of):
    linked(olga, provider)
    browser = client_of(olga)
    led = {target: go(browser, provider, "/accounts/confirm/sso/", next=target)["Location"] for target in ELSEWHERE}
    assert {target: where for target, where in led.items() if not stays_here(where)} == {}
    assert go(browser, provider, "/accounts/confirm/sso/", next="/team/")["Location"] == "/team/"


def test_an_address_alone_opens_no_account(client, provider, olga):
    assert "No account here is linked" in why(go(client, provider))
    assert not is_in(client)
    assert entries() == [("session.refused", "refused")]
    assert not Identity.objects.exists()


def test_another_provider_that_calls_somebody_the_same_is_nobody(client, provider, olga):
    Identity.objects.create(user=olga, issuer="https://former.example", subject=provider.person["sub"])
    assert "No account here is linked" in why(go(client, provider))


@pytest.mark.parametrize("subject", ["x" * 256, "nul\0", "line\nend"])
def test_a_name_that_cannot_be_kept_is_refused_with_words(client, provider, subject):
    provider.claims = {"sub": subject}
    assert "a name that the portal cannot keep" in why(go(client, provider))
    assert not is_in(client)


def test_a_name_of_255_characters_is_taken(client, provider, olga):
    provider.claims = {"sub": "x" * 255}
    Identity.objects.create(user=olga, issuer=provider.url, subject="x" * 255)
    go(client, provider)
    assert is_in(client)


@pytest.mark.parametrize("at", [[], {}, True])
def test_a_moment_that_is_none_confirms_nothing(client, provider, olga, at):
    linked(olga, provider)
    provider.asked_anew, provider.claims = False, {"auth_time": at}
    go(client, provider)
    assert is_in(client)
    assert client.get("/accounts/passkeys/add/").status_code == 302


def test_who_is_switched_off_stays_out(client, provider, olga):
    linked(olga, provider)
    User.objects.filter(pk=olga.pk).update(is_active=False)
    assert go(client, provider)["Location"] == "/accounts/login/"
    assert not is_in(client)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another sign-in"},
        {"aud": "another-portal"},
        {"azp": CLIENT, "aud": "another-portal"},
        {"iss": "https://another.example"},
        {"exp": 1_000_000_000},
        {"iat": 4_000_000_000},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_a_token_that_is_not_for_this_sign_in_lets_nobody_in(client, provider, olga, claims):
    linked(olga, provider)
    provider.claims = claims
    assert "could not confirm who you are" in why(go(client, provider))
    assert not is_in(client)


def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(client, provider, olga):
    linked(olga, provider)
    provider.key = RSAKey.generate_key(2048, {"kid": "first", "alg": "RS256", "use": "sig"})
    assert "could not confirm who you are" in why(go(client, provider))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256"])
def test_a_token_that_anybody_could_have_made_lets_nobody_in(client, provider, olga, algorithm):
    """Not signed at all, or "signed" with the key that the provider publishes."""
    linked(olga, provider)
    provider.algorithm = algorithm
    assert "could not confirm who you are" in why(go(client, provider))
    assert not is_in(client)


def test_an_answer_without_an_id_token_lets_nobody_in(client, provider, olga):
    linked(olga, provider)
    provider.silent = True
    assert "did not say who you are" in why(go(client, provider))


def test_the_providers_new_key_is_fetched(client, provider, olga):
    linked(olga, provider)
    go(client, provider)
    provider.key = provider.published = RSAKey.generate_key(2048, {"kid": "second", "alg": "RS256", "use": "sig"})
    other = Client()
    go(other, provider)
    assert is_in(other)


def test_a_way_back_that_another_browser_was_given_is_refused(client, provider, olga):
    linked(olga, provider)
    back = provider.visit(way(client, "/accounts/login/sso/"))
    assert "not begun in this browser" in why(Client().get(back))


def test_a_way_back_leads_in_once(client, provider, olga):
    linked(olga, provider)
    back = provider.visit(way(client, "/accounts/login/sso/"))
    client.get(back)
    client.post("/accounts/logout/")
    client.get(back)
    assert not is_in(client)


def test_who_says_no_at_the_provider_is_told_how_to_go_on(client, provider, olga):
    state = re.search(r"state=([^&]+)", way(client, "/accounts/login/sso/"))[1]
    answer = client.get(f"/accounts/login/sso/back/?error=access_denied&state={state}")
    assert "Try again" in why(answer)


def test_a_provider_with_another_name_than_its_address_is_not_asked(client, provider):
    provider.called = "https://another.example"
    assert client.post("/accounts/login/sso/").status_code == 502
    assert provider.asked == []


def test_a_provider_that_is_away_is_a_page_and_no_crash(client, provider):
    provider.stop()
    answer = client.post("/accounts/login/sso/")
    assert (answer.status_code, b"Try again" in answer.content) == (502, True)


def test_a_second_factor_is_asked_for_as_well(client, provider, olga, confirmed):
    linked(olga, provider)
    browser = confirmed(olga)
    page = browser.get("/accounts/app/add/")
    secret = page.context["form"].secret
    browser.post("/accounts/app/add/", {"code": format_hotp_value(hotp_value(secret, int(time.time()) // 30))})
    assert go(client, provider)["Location"] == "/accounts/login/factor/"
    assert not is_in(client)


# Linking


def test_a_person_links_their_account(provider, olga, confirmed):
    browser, elsewhere = confirmed(olga), Client()
    elsewhere.post("/accounts/login/", {"login": olga.email, "password": "correct horse battery"})
    assert is_in(elsewhere)
    assert go(browser, provider, "/accounts/sso/link/")["Location"] == "/accounts/"
    assert Identity.objects.get().user == olga
    assert ("identity.added", "ok") in entries()
    assert not is_in(elsewhere)


@pytest.mark.parametrize(("email", "proven"), [("olga@acme.example", True), ("else@acme.example", False)])
def test_a_provider_that_vouches_for_the_address_proves_it(provider, olga, confirmed, email, proven):
    User.objects.filter(pk=olga.pk).update(unproven_since="2026-01-01T00:00Z")
    provider.person["email"] = email
    go(confirmed(olga), provider, "/accounts/sso/link/")
    assert (User.objects.get(pk=olga.pk).unproven_since is None) is proven


def test_linking_wants_a_recent_proof(provider, olga, confirmed):
    answer = confirmed(olga, ago=700).post("/accounts/sso/link/")
    assert answer["Location"].startswith("/accounts/confirm/")


def test_an_identity_is_one_persons(provider, olga, bill, confirmed):
    linked(bill, provider)
    assert "linked to another account" in why(go(confirmed(olga), provider, "/accounts/sso/link/"))
    assert Identity.objects.get().user == bill


def test_an_unlinked_identity_signs_in_no_more(client, provider, olga, confirmed):
    identity, browser = linked(olga, provider), confirmed(olga)
    browser.post(f"/accounts/sso/{identity.pk}/unlink/")
    go(client, provider)
    assert not is_in(client)
    assert ("identity.removed", "ok") in entries()


def test_the_only_way_in_is_not_unlinked(provider, olga, confirmed):
    identity = linked(olga, provider)
    browser = confirmed(olga)
    User.objects.filter(pk=olga.pk).update(password="!")
    browser = confirmed(User.objects.get(pk=olga.pk))
    answer = browser.post(f"/accounts/sso/{identity.pk}/unlink/", follow=True)
    assert "your only way to sign in" in answer.content.decode()
    assert Identity.objects.exists()


def test_nobody_unlinks_somebody_else(provider, olga, bill, confirmed):
    identity = linked(bill, provider)
    assert confirmed(olga).post(f"/accounts/sso/{identity.pk}/unlink/").status_code == 404
    assert Identity.objects.exists()


# Confirming


def test_signing_in_again_there_confirms_who_one_is(provider, olga, confirmed):
    linked(olga, provider)
    browser = confirmed(olga, ago=700)
    assert go(browser, provider, "/accounts/confirm/sso/", next="/team/")["Location"] == "/team/"
    assert browser.get("/accounts/password/").status_code == 200
    assert browser.post("/accounts/sso/link/").status_code == 200
    assert (provider.asked[0]["prompt"], provider.asked[0]["max_age"]) == ("login", "0")


@pytest.mark.parametrize("told", [{}, {"auth_time": 1_000_000_000}], ids=["not said", "long ago"])
def test_a_provider_that_did_not_ask_anew_confirms_nothing(provider, olga, confirmed, told):
    linked(olga, provider)
    provider.asked_anew, provider.claims = False, told
    browser = confirmed(olga, ago=700)
    assert "did not ask you anew" in why(go(browser, provider, "/accounts/confirm/sso/"))
    assert entries() == [("session.doubted", "refused")]
    assert browser.post("/accounts/sso/link/").status_code == 302


def test_a_sign_in_for_which_the_provider_asked_confirms_too(client, provider, olga):
    linked(olga, provider)
    go(client, provider)
    assert client.get("/accounts/passkeys/add/").status_code == 200


@pytest.mark.parametrize(
    "told", [{}, {"auth_time": 1_000_000_000}, {"auth_time": 4_000_000_000}], ids=["not said", "long ago", "not yet"]
)
def test_a_sign_in_for_which_the_provider_asked_nobody_confirms_nothing(client, provider, olga, told):
    linked(olga, provider)
    provider.asked_anew, provider.claims = False, told
    go(client, provider)
    assert is_in(client)
    assert client.get("/accounts/passkeys/add/")["Location"].startswith("/accounts/confirm/")


@pytest.fixture
def passwordless(client, provider, olga):
    """Olga, just signed in by a provider that does not say when it asked her; she has nothing else to confirm with."""
    linked(olga, provider)
    User.objects.filter(pk=olga.pk).update(password="!")
    provider.asked_anew = False
    go(client, provider)
    return client


def test_who_has_no_way_to_confirm_sets_up_the_first_after_signing_in_and_nothing_else(passwordless):
    added = [passwordless.get(path).status_code for path in ("/accounts/passkeys/add/", "/accounts/app/add/")]
    assert added == [200, 200]
    assert passwordless.get("/accounts/recovery-codes/new/").status_code == 302
    assert passwordless.post("/accounts/sso/link/")["Location"].startswith("/accounts/confirm/")


def test_ten_minutes_later_not_even_that(passwordless):
    with time_machine.travel(time.time() + 601):
        assert passwordless.get("/accounts/passkeys/add/")["Location"].startswith("/accounts/confirm/")


def test_a_second_one_needs_the_first(passwordless, olga):
    passkey = Authenticator(user=olga, type=Authenticator.Type.WEBAUTHN, data={"name": "Laptop"})
    Authenticator.objects.bulk_create([passkey])  # without the signal that ends her other sessions
    assert passwordless.get("/accounts/app/add/")["Location"].startswith("/accounts/confirm/")


def test_a_confirmation_counts_from_when_the_provider_asked(provider, olga, confirmed):
    linked(olga, provider)
    provider.claims = {"auth_time": int(time.time()) - 590}
    browser = confirmed(olga, ago=700)
    go(browser, provider, "/accounts/confirm/sso/")
    assert browser.get("/accounts/passkeys/add/").status_code == 200
    with time_machine.travel(time.time() + 20):
        assert browser.get("/accounts/passkeys/add/").status_code == 302


def test_somebody_elses_identity_confirms_nothing(provider, olga, bill, confirmed):
    linked(bill, provider)
    browser = confirmed(olga, ago=700)
    assert "not linked to the account" in why(go(browser, provider, "/accounts/confirm/sso/"))
    assert entries() == [("session.doubted", "refused")]
    assert browser.post("/accounts/sso/link/").status_code == 302


def test_who_has_no_password_is_sent_there_to_confirm(provider, olga, confirmed):
    linked(olga, provider)
    User.objects.filter(pk=olga.pk).update(password="!")
    browser = confirmed(User.objects.get(pk=olga.pk), ago=700)
    assert browser.get("/accounts/confirm/?next=/team/")["Location"] == "/accounts/confirm/sso/?next=%2Fteam%2F"
    assert "Go to Acme ID" in browser.get("/accounts/confirm/sso/").content.decode()


def test_who_has_no_password_has_none_to_change(provider, olga, confirmed):
    User.objects.filter(pk=olga.pk).update(password="!")
    browser = confirmed(User.objects.get(pk=olga.pk))
    assert "there is none to change" in browser.get("/accounts/password/", follow=True).content.decode()


# Joining


@pytest.fixture
def link(confirmed, ada):
    browser = confirmed(ada)
    browser.post("/team/invite/", {"email": "nina@new.example", "role": "operator"})
    return re.search(r'value="http://testserver(/join/[^"]+)"', browser.get("/team/").content.decode())[1]


def join(browser, provider, link):
    token = re.search(r'name="join" value="([^"]+)"', browser.get(link).content.decode())[1]
    return go(browser, provider, join=token)


def test_who_is_invited_joins_without_a_password(client, provider, link):
    provider.person |= {"email": "Nina@new.example", "name": "Nina"}
    join(client, provider, link)
    nina = User.objects.get(email="nina@new.example")
    assert (nina.name, nina.has_usable_password()) == ("Nina", False)
    assert Membership.objects.get(user=nina).role == "operator"
    assert is_in(client)


def test_who_has_just_joined_sets_up_a_passkey_whatever_the_provider_says(client, provider, link):
    provider.person["email"], provider.asked_anew = "nina@new.example", False
    join(client, provider, link)
    assert client.get("/accounts/passkeys/add/").status_code == 200


@pytest.mark.parametrize("other", [{"email": "else@new.example"}, {"email_verified": False}, {"email_verified": "yes"}])
def test_who_is_not_vouched_for_as_the_invited_one_does_not_join(client, provider, link, other):
    provider.person |= {"email": "nina@new.example", **other}
    assert "does not vouch that this is yours" in why(join(client, provider, link))
    assert not User.objects.filter(email="nina@new.example").exists()


def test_an_invitation_that_was_revoked_meanwhile_is_not_used(client, provider, link):
    provider.person["email"] = "nina@new.example"
    token = re.search(r'name="join" value="([^"]+)"', client.get(link).content.decode())[1]
    there = way(client, "/accounts/login/sso/", join=token)
    Invitation.objects.update(revoked_at=Invitation.objects.get().at)
    assert "cannot be used" in why(client.get(provider.visit(there)))
    assert not User.objects.filter(email="nina@new.example").exists()


# Set up, and not


def test_the_sign_in_page_names_it(client, provider):
    assert "Sign in with Acme ID" in client.get("/accounts/login/").content.decode()


def test_without_it_there_is_nothing_of_it(client, olga, confirmed):
    assert "/accounts/login/sso/" not in client.get("/accounts/login/").content.decode()
    assert client.post("/accounts/login/sso/").status_code == 404
    assert client.get("/accounts/login/sso/back/").status_code == 404
    assert confirmed(olga).post("/accounts/sso/link/").status_code == 404


@pytest.mark.parametrize("url", ["http://id.example", "ftp://id.example", "id.example"])
def test_a_provider_without_tls_is_refused_at_start(monkeypatch, url):
    monkeypatch.setenv("OIDC_SERVER_URL", url)
    monkeypatch.setenv("OIDC_CLIENT_ID", "portal")
    with pytest.raises(ImproperlyConfigured, match="https"):
        env.single_sign_on()


def test_a_provider_without_a_client_id_is_refused_at_start(monkeypatch):
    monkeypatch.setenv("OIDC_SERVER_URL", "https://id.example/")
    with pytest.raises(ImproperlyConfigured, match="OIDC_CLIENT_ID"):
        env.single_sign_on()


def test_a_stranger_who_tries_without_end_is_slowed_down(client, provider):
    answers = [client.post("/accounts/login/sso/").status_code for _ in range(61)]
    assert (answers[0], answers[-1]) == (200, 429)
