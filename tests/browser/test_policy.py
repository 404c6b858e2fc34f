"""Every page and every action in Chromium with the content policy enforced: no report, and a console that is silent.

The portal is served by this process, with rows of every kind: what it needs besides is Chromium alone.
"""

import re

import pytest

from engines.enums import State
from portal.accounts.access import TABLE, may
from portal.accounts.models import Invitation
from portal.vault.models import Connection, StoredKey
from tests.browser.conftest import NAME, elsewhere
from tests.browser.test_passkeys import PASSKEYS
from tests.browser.test_policy_signing_in import SIGNING_IN
from tests.browser.visitor import asked
from tests.security.test_roles import browser_of
from tests.security.world import CAST, PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

# What other tests walk through: signing in and what leads there, and passkeys, which need a device.
ELSEWHERE = SIGNING_IN | PASSKEYS
FOR_MACHINES = ("live", "healthz", "readyz", "metrics")
NOT_ALONE = ("sso-callback", "join")  # with what a provider says, and for somebody who is not signed in


def test_no_page_and_no_action_breaks_the_policy(world, visitor):
    open_every_page(world, visitor, "ada")
    do_everything(world, visitor)
    assert visitor.objections() == []
    assert visitor.not_done(asked() - asked(*FOR_MACHINES) - ELSEWHERE) == {}


def test_no_page_of_the_other_roles_does(world, visitor):
    for person in CAST.keys() - {"ada"}:
        open_every_page(world, visitor, person)
    assert visitor.objections() == []


def test_a_field_that_a_person_made_larger_breaks_it_neither_when_the_dialog_is_shown_again(world, visitor):
    page = visitor.page
    page.goto("/engines/eng_drain/")
    page.locator("#do-drain").click()
    page.locator("dialog textarea").evaluate("field => { field.style.height = '120px'; field.form.noValidate = true }")
    page.locator("dialog button[type=submit]").click()
    page.locator("dialog [aria-invalid=true]").first.wait_for()
    assert [each for each in visitor.objections() if "style" in str(each)] == []


def open_every_page(world, visitor, person):
    user = world.people[person]
    visitor.become(elsewhere(lambda: browser_of(user)))
    pages = [name for name in TABLE if may(CAST[person], name, "GET") and name not in FOR_MACHINES + NOT_ALONE]
    urls = elsewhere(lambda: {name: world.url(name, person) for name in pages})
    for name, url in urls.items():
        assert visitor.page.goto(url).status < 400, (person, name)


def do_everything(world, visitor):
    engines(world, visitor)
    many(world, visitor)
    operations(world, visitor)
    money(world, visitor)
    keys(world, visitor)
    people(world, visitor)
    log(world, visitor)
    own(world, visitor)


def engines(world, visitor):
    visitor.page.goto(f"/engines/{world.busy[State.WORKING].uid}/")
    for verb in ("drain", "update", "restart"):
        visitor.ask(f"eng_{verb}", verb, reason="Kernel patch")
    visitor.ask("eng_stop", "stop", reason="Old rack")
    visitor.ask("eng_rename", "rename", reason="New rack", name="gpu-9")
    visitor.ask("eng_delete", "delete", reason="Old rack", name=NAME)
    visitor.ask("eng_extend", "extend", reason="Render")
    visitor.send("/engines/new/", "", name="gpu-10", reason="New rack")


def many(world, visitor):
    page = visitor.page
    page.goto("/engines/")
    page.locator("#pick-eng_many-drain").check()
    page.locator("#many-drain").click()
    page.wait_for_url("**/engines/many/drain/**")
    for verb in ("drain", "update", "restart", "stop", "rename", "delete", "extend"):
        path = f"/engines/many/{verb}/"
        address, words = f"{path}?uid=eng_many-{verb}&pattern=rack-{{n}}", {"reason": "Kernel patch"}
        page.goto(address)
        words |= {"despite": True} if page.locator("[name=despite]").count() else {}
        words |= {"typed": f"{verb} 1"} if page.locator("[name=typed]").count() else {}
        visitor.send(address, path, **words)
    visitor.decide(f"/batches/{world.batch.pk}/", f"/batches/{world.batch.pk}/stop/")
    visitor.decide(f"/batches/{world.purchases.pk}/", f"/batches/{world.purchases.pk}/approve/")


def operations(world, visitor):
    for state, step in ((State.STUCK, "keep-waiting"), (State.NEEDS_ATTENTION, "close"), (State.WAITING, "cancel")):
        path = f"/operations/{world.operations[state].pk}/"
        visitor.decide(path, f"{path}{step}/")
    path = f"/operations/{world.own_unclear.pk}/"
    visitor.decide(path, f"{path}send-again/")


def money(world, visitor):
    visitor.decide("/cloud-time/", f"/cloud-time/{world.proposal.pk}/reject/")
    visitor.decide("/cloud-time/", f"/cloud-time/{world.second.pk}/approve/")
    visitor.decide(f"/operations/{world.cancellable.pk}/", f"/cloud-time/{world.cancellable.pk}/cancel/")
    path = f"/cloud-time/{world.unclear.pk}/resolve/"
    visitor.decide(f"/operations/{world.unclear.pk}/", f"{path}?applied=no")
    for _ in ("stop", "go on"):
        visitor.decide("/cloud-time/", "/cloud-time/freeze/")
    visitor.decide("/cloud-time/", "/cloud-time/limits/", user_day="400")
    visitor.decide("/cloud-time/", "/cloud-time/ceiling/", user_day="500")


def keys(world, visitor):
    pk = world.connection.pk
    form = {f"c{pk}__label": "Another", f"c{pk}__secret": "inf_another_key"}
    visitor.send("/keys/", "/keys/", button="rotate", **form)
    key = elsewhere(lambda: StoredKey.objects.get(label="Another").pk)
    visitor.send("/keys/", f"/keys/{key}/test/")
    visitor.send(f"/keys/{key}/revoke/", f"/keys/{key}/revoke/")
    visitor.send("/connections/new/", "/connections/new/", name="Another", address="https://api.inference.sh")
    other = elsewhere(lambda: Connection.objects.get(name="Another").pk)
    visitor.send(f"/connections/{other}/", f"/connections/{other}/", name="Renamed")
    visitor.send(f"/connections/{other}/remove/", f"/connections/{other}/remove/")


def people(world, visitor):
    visitor.send("/team/invite/", "/team/invite/", email="another@acme.example")
    row = elsewhere(lambda: Invitation.objects.get(email="another@acme.example").pk)
    visitor.send("/team/", f"/team/invitations/{row}/resend/")
    visitor.send("/team/", f"/team/invitations/{row}/revoke/")
    url = elsewhere(lambda: world.url("member"))
    visitor.send(url, f"{url}role/")
    visitor.send(url, f"{url}remove/")
    visitor.send("/team/", "/team/switch/", button="acme")


def log(world, visitor):
    visitor.page.goto("/audit/")
    visitor.page.get_by_label("Who").fill("ada")
    visitor.page.wait_for_url("**actor=ada**")
    visitor.send("/audit/?q=rack", "/audit/filters/", name="Racks")
    visitor.send("/audit/", elsewhere(lambda: world.url("audit-filter-forget")))
    visitor.page.goto("/audit/")
    with visitor.page.expect_download():
        visitor.page.get_by_role("button", name="Export CSV").click()
    with visitor.page.expect_download():
        visitor.page.get_by_role("link", name="Cloud time").click()
        visitor.page.goto("/cloud-time/")
        visitor.page.locator('a[href$="ledger.csv"], form[action$="ledger.csv"] button').first.click()


def own(world, visitor):
    ada = world.people["ada"]
    visitor.send("/accounts/", elsewhere(lambda: world.url("sso-unlink")))
    elsewhere(lambda: world.sign_in_elsewhere(ada))
    visitor.send("/accounts/", elsewhere(lambda: world.url("session-end")))
    elsewhere(lambda: [world.sign_in_elsewhere(ada) for _ in range(2)])
    visitor.send("/accounts/", "/accounts/sessions/end-others/")
    removal = elsewhere(lambda: world.url("passkey-remove"))
    visitor.send(removal, removal)
    visitor.send("/accounts/recovery-codes/new/", "/accounts/recovery-codes/new/")
    visitor.send("/accounts/app/remove/", "/accounts/app/remove/")
    visitor.page.goto("/accounts/app/add/")
    secret = re.search(r"[A-Z2-7]{32}", visitor.page.locator("main").inner_text())[0]
    visitor.fill(visitor.form("/accounts/app/add/"), code=visitor.code(secret))
    visitor.page.wait_for_url("**/accounts/recovery-codes/")
    words = {"oldpassword": PASSWORD, "password1": "a much longer sentence", "password2": "a much longer sentence"}
    visitor.send("/accounts/password/", "/accounts/password/", **words)
    visitor.page.wait_for_url("**/accounts/")
    visitor.send("/accounts/logout/", "/accounts/logout/")


def test_what_breaks_it_is_reported(world, visitor):
    """The rule removed: a page with a handler inside, under the same policy."""

    def with_a_handler(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("<main ", '<main onclick="window.x = 1" '))

    visitor.page.route("**/team/", with_a_handler)
    with visitor.page.expect_request("**/csp-report"):
        visitor.page.goto("/team/")
        visitor.page.locator("main").click()
    assert visitor.page.evaluate("window.x") is None
    assert visitor.complaints != []
