"""Every page and every action in Chromium with the content policy enforced: no report, and a console that is silent.

The portal is served by this process, with rows of every kind: what it needs besides is Chromium alone.
"""

import re

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.urls import resolve
from playwright.sync_api import sync_playwright

from engines import snapshots
from engines.enums import State
from portal import clock
from portal.accounts.access import TABLE
from portal.accounts.models import Invitation, Membership, Team
from portal.accounts.roles import Role
from portal.vault.models import Connection, StoredKey
from tests.browser.chromium import WAY_OUT, find
from tests.browser.conftest import ARGUMENTS, elsewhere
from tests.clock import Clock
from tests.engines.scripted_api import ScriptedApi
from tests.security.test_roles import browser_of
from tests.security.world import PASSWORD, World, engine_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

NAME = "Said by Acme"
NO_PAGES = {"live", "healthz", "readyz", "metrics", "cloud-time-csv", "account_logout"}
NOT_FOUND = {"sso-callback", "join"}  # there is no provider here, and the invitation is not Ada's
# What a click cannot show here: a passkey's device (test_passkeys.py), a provider, signing in, a machine on offer.
ELSEWHERE = {
    *(
        "csp-report",
        "sso",
        "sso-confirm",
        "sso-link",
        "passkey-add",
        "mfa_login_webauthn",
        "mfa_reauthenticate_webauthn",
    ),
    *("account_login", "mfa_authenticate", "join", "engine-create", "mfa_reauthenticate", "account_reauthenticate"),
}
UNFOLD = "for (const one of document.querySelectorAll('details')) one.open = true"


@pytest.fixture
def world(transactional_db, monkeypatch):
    Clock.hold(monkeypatch)
    api = ScriptedApi()
    made = World("acme", NAME, api.url)
    status = {"delete": "stopped"}
    rows = [
        engine_of(f"eng_{many}{verb}", NAME, status.get(verb, "running"), paid=verb in ("restart", "extend"))
        for verb in ("drain", "update", "restart", "stop", "rename", "delete", "extend")
        for many in ("", "many-")
    ]
    snapshots.apply(made.connection, rows, read_at=clock.now())
    Connection.objects.filter(pk=made.connection.pk).update(last_error="")
    second = Team.objects.create(slug="second", name="A second team")
    Membership.objects.create(user=made.people["ada"], team=second, role=Role.VIEWER)
    yield made
    api.close()


class Visitor:
    """Ada's browser: what its console said, which reports it sent, and how each form that it sent was answered."""

    def __init__(self, page, base):
        self.page, self.base = page, base
        self.complaints, self.reports, self.answered = [], [], {}
        page.set_default_timeout(10_000)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "request", lambda sent: self.reports.append(sent.post_data) if sent.url.endswith("/csp-report") else None
        )
        page.on("response", self._answered)
        # This server has no streams: the page hears that none can be expected.
        page.route("**/live/", lambda route: route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n"))

    def _answered(self, response):
        if response.request.method == "POST":
            path = response.url.removeprefix(self.base).split("?")[0]
            self.answered[resolve(path).url_name] = response.status

    def send(self, address, action, /, button=None, **words):
        """Open the page, fill in the form that leads there, and send it."""
        self.page.goto(address)
        self.page.evaluate(UNFOLD)
        of_it = (f'form[method=post][action="{action}"]', f'form[method=post][action^="{action}?"]')
        chosen = ", ".join(of_it) if action else "main form[method=post]"
        self._fill(self.page.locator(chosen).first, button, words)

    def ask(self, uid, verb, **words):
        """The same in the dialog of the engine's page."""
        self.page.goto(f"/engines/{uid}/")
        self.page.locator(f"#do-{verb}").click()
        self._fill(self.page.locator("dialog[open] form[method=post]").last, None, words)
        self.page.wait_for_url(re.compile("/operations/|/cloud-time/"))

    def _fill(self, form, button, words):
        for name, value in words.items():
            field = form.locator(f'[name="{name.replace("__", "-")}"]').first
            field.check() if value is True else field.fill(value)
        chosen = form.locator("button" if button is None else f'button[value="{button}"]').last
        with self.page.expect_response(lambda response: response.request.method == "POST"):
            chosen.click()
        self.page.wait_for_load_state()


@pytest.fixture
def visitor(world, live_server):
    if find() is None:
        pytest.fail(f"There is no Chromium. {WAY_OUT}")
    session = browser_of(world.people["ada"]).cookies["sessionid"].value
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        context = browser.new_context(base_url=live_server.url)
        context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        yield Visitor(context.new_page(), live_server.url)
        browser.close()


def inline_script_runs(visitor):
    """Break the policy, and wait for the report: those of before have arrived by then."""
    with visitor.page.expect_request("**/csp-report") as sent:
        visitor.page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.x = 1'}))"
        )
    sent.value.response()
    return visitor.page.evaluate("window.x") is not None


def test_no_page_and_no_action_breaks_the_policy(world, visitor):
    urls = elsewhere(lambda: {name: world.url(name) for name in TABLE if "GET" in TABLE[name]})
    for name in [name for name in urls if name not in NO_PAGES | NOT_FOUND]:
        assert visitor.page.goto(urls[name]).status < 400, name
    do_everything(world, visitor)
    assert visitor.complaints == []
    assert not inline_script_runs(visitor)
    assert len(visitor.reports) == 1, visitor.reports[:-1]
    wanted = {name for name, methods in TABLE.items() if "POST" in methods} - ELSEWHERE
    assert {
        name: visitor.answered.get(name) for name in wanted if visitor.answered.get(name) not in (200, 204, 302)
    } == {}


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
    for verb in ("drain", "update", "restart", "stop", "delete", "extend"):
        path = f"/engines/many/{verb}/"
        address, words = f"{path}?uid=eng_many-{verb}", {"reason": "Kernel patch"}
        page.goto(address)
        words |= {"despite": True} if page.locator("[name=despite]").count() else {}
        words |= {"typed": f"{verb} 1"} if page.locator("[name=typed]").count() else {}
        visitor.send(address, path, **words)
    visitor.send(f"/batches/{world.batch.pk}/", f"/batches/{world.batch.pk}/stop/")
    visitor.send(f"/batches/{world.purchases.pk}/", f"/batches/{world.purchases.pk}/approve/")


def operations(world, visitor):
    for state, step in ((State.STUCK, "keep-waiting"), (State.NEEDS_ATTENTION, "close"), (State.WAITING, "cancel")):
        path = f"/operations/{world.operations[state].pk}/"
        visitor.send(path, f"{path}{step}/")
    path = f"/operations/{world.own_unclear.pk}/"
    visitor.send(path, f"{path}send-again/")


def money(world, visitor):
    visitor.send("/cloud-time/", f"/cloud-time/{world.proposal.pk}/reject/")
    visitor.send("/cloud-time/", f"/cloud-time/{world.second.pk}/approve/")
    visitor.send(f"/operations/{world.cancellable.pk}/", f"/cloud-time/{world.cancellable.pk}/cancel/")
    path = f"/cloud-time/{world.unclear.pk}/resolve/"
    visitor.send(f"/operations/{world.unclear.pk}/", path, button="no", reason="Their list, entry 4711")
    for _ in ("stop", "go on"):
        visitor.send("/cloud-time/", "/cloud-time/freeze/", reason="Invoice")
    visitor.send("/cloud-time/", "/cloud-time/limits/", user_day="400")
    visitor.send("/cloud-time/", "/cloud-time/ceiling/", ceiling__user_day="500")


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
    code = format_hotp_value(hotp_value(secret, int(visitor.page.evaluate("Date.now()")) // 30000))
    visitor._fill(visitor.page.locator('form[action="/accounts/app/add/"]'), None, {"code": code})
    words = {"oldpassword": PASSWORD, "password1": "a much longer sentence", "password2": "a much longer sentence"}
    visitor.send("/accounts/password/", "/accounts/password/", **words)
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
