"""A browser that remembers what its console said, what the content policy reported, and what it was answered."""

import re
from collections import defaultdict
from contextlib import contextmanager

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.urls import Resolver404, resolve
from playwright.sync_api import sync_playwright

from portal.accounts.access import TABLE
from tests.browser.chromium import ARGUMENTS, WAY_OUT, find

UNFOLD = "for (const one of document.querySelectorAll('details')) one.open = true"
INLINE = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.x = 1'}))"


def asked(*names):
    """Every cell of the table of addresses, or those of these names: what a walk asks for."""
    return {(method, name) for name in names or TABLE for method in TABLE[name]}


class Visitor:
    """A context of Chromium, and the page that it began with."""

    def __init__(self, context, base):
        self.context, self.base = context, base
        self.complaints, self.reports, self.answered = [], [], defaultdict(set)
        context.set_default_timeout(10_000)
        context.on("console", lambda said: self._complain(said.page, said.text) if said.type == "error" else None)
        context.on("weberror", lambda error: self._complain(error.page, str(error.error)))
        context.on("request", lambda sent: self.reports.append(sent.post_data) if reports(sent) else None)
        context.on("response", self._answered)
        # This server has no streams: the page hears that none can be expected.
        context.route(
            "**/live/", lambda route: route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n")
        )
        self.page = context.new_page()

    def _complain(self, page, text):
        self.complaints.append(f"{page.url if page else ''}: {text}")

    def _answered(self, response):
        if not response.url.startswith(self.base):
            return
        try:
            name = resolve(response.url.removeprefix(self.base).split("?")[0]).url_name
        except Resolver404:  # a file
            return
        self.answered[response.request.method, name].add(response.status)

    def objections(self):
        """What the console and the policy had against anything so far.

        Breaks the policy, to see that it is enforced, and waits for the report: those of before have arrived by then.
        """
        complaints = list(self.complaints)
        with self.page.expect_request("**/csp-report") as sent:
            self.page.evaluate(INLINE)
        sent.value.response()
        assert self.page.evaluate("window.x") is None
        return complaints + self.reports[:-1]

    def not_done(self, wanted):
        """Which of these were never answered as something that is done, or a page; and how they were."""
        return {each: self.answered[each] for each in wanted if not self.answered[each] & {200, 204, 302}}

    def become(self, browser):
        """Go on in that session."""
        self.context.clear_cookies()
        session = browser.cookies["sessionid"].value
        self.context.add_cookies([{"name": "sessionid", "value": session, "url": self.base}])

    def send(self, address, action, /, button=None, **words):
        """Open the page, fill in the form that leads there, and send it."""
        self.page.goto(address)
        self.page.evaluate(UNFOLD)
        self.fill(self.form(action), button, **words)

    def form(self, action):
        of_it = (f'form[method=post][action="{action}"]', f'form[method=post][action^="{action}?"]')
        return self.page.locator(", ".join(of_it) if action else "main form[method=post]").first

    def ask(self, uid, verb, **words):
        """The same in the dialog of the engine's page."""
        self.page.goto(f"/engines/{uid}/")
        self.page.locator(f"#do-{verb}").click()
        self.fill(self.page.locator("dialog[open] form[method=post]").last, **words)
        self.page.wait_for_url(re.compile("/operations/|/cloud-time/"))

    def decide(self, address, action, **words):
        """Open the dialog of a decision from its page, be asked why, and decide."""
        self.page.goto(address)
        self.page.locator(f'a[href="{action}"]').first.click()
        self.fill(self.page.locator("dialog[open] form[method=post]"), reason="As agreed", **words)
        self.page.locator("dialog:not([open])").wait_for(state="attached")

    def fill(self, form, button=None, **words):
        for name, value in words.items():
            field = form.locator(f'[name="{name.replace("__", "-")}"]').first
            field.check() if value is True else field.fill(value)
        chosen = form.locator("button" if button is None else f'button[value="{button}"]').last
        with form.page.expect_response(lambda response: response.request.method == "POST"):
            chosen.click()
        form.page.wait_for_load_state()

    def code(self, secret):
        """What an authenticator app shows now."""
        return format_hotp_value(hotp_value(secret, int(self.page.evaluate("Date.now()")) // 30000))


def reports(request):
    return request.url.endswith("/csp-report")


@contextmanager
def visiting(base):
    """A Visitor of the portal at that address."""
    if find() is None:
        pytest.fail(f"There is no Chromium. {WAY_OUT}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        yield Visitor(browser.new_context(base_url=base), base)
        browser.close()
