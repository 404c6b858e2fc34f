"""Simulated people: each clicks at random on the real pages, double-clicks, goes back, and sends old forms again."""

import contextlib
import re
import threading
import time
from collections import Counter
from html import unescape

import httpx

from tests.harness import csrf, hidden
from tests.nemesis.fleet import HOST, LIMITS, MACHINE, ORDERED, PASSWORDS, RAISE, VERSIONS

SIGNED_IN_FOR = 480  # seconds; an approval wants a sign-in of the last ten minutes
PATIENCE = 20.0
RELOADS = 4  # of a page that asks the API, which may not be reached
ALLOWED = {200, 403, 404, 409, 422, 429, 503}


class Person(threading.Thread):
    """Clicks until `done` is set. `wrong` lists the answers that a portal must never give, `clicks` what was done."""

    def __init__(self, email, fleet, uids, random, done):
        super().__init__(name=email, daemon=True)
        self.email, self.fleet, self.random, self.done = email, fleet, random, done
        self.rented, self.own = uids
        self.clicks, self.wrong, self.limit = Counter(), [], int(LIMITS["team_day"])
        self._old, self._browser, self._signed_in = [], None, 0.0

    def run(self):
        while not self.done.wait(self.random.expovariate(3.0)):
            click = self.random.choices(list(CLICKS), list(CLICKS.values()))[0]
            try:
                click(self, self.browser())
                self.clicks[click.__name__] += 1
            except httpx.HTTPError as error:
                self.clicks[type(error).__name__] += 1
            except Exception as error:
                self.wrong.append(f"{self.email}: {click.__name__}: {error!r}")

    def browser(self):
        if time.monotonic() - self._signed_in > SIGNED_IN_FOR or self._browser is None:
            browser = httpx.Client(
                base_url=self.fleet.place.portal_url, timeout=PATIENCE, trust_env=False, follow_redirects=True
            )
            browser.get("/accounts/login/")
            words = {"login": self.email, "password": PASSWORDS[self.email], **csrf(browser)}
            answer = self.checked(browser.post("/accounts/login/", data=words))
            if answer.url.path != "/engines/":
                raise httpx.HTTPError("not signed in yet")
            self._browser, self._signed_in = browser, time.monotonic()
        return self._browser

    def checked(self, answer):
        if answer.status_code not in ALLOWED:
            self.wrong.append(f"{self.email}: {answer.status_code} from {answer.request.method} {answer.url.path}")
        return answer

    def send(self, browser, address, words):
        """Send a form once, twice in a row, or twice at once; and keep it, to be sent again much later.

        Return the answers that came.
        """
        words, answers = words | csrf(browser), []
        self._old = [*self._old[-10:], (address, words)]
        how = self.random.random()
        if how < 0.15:
            second = threading.Thread(target=self._quietly, args=(browser, address, words, answers))
            second.start()
            self._quietly(browser, address, words, answers)
            second.join()
        else:
            answers.append(self.checked(browser.post(address, data=words)))
            if how < 0.25:
                self._quietly(browser, address, words, answers)
        return answers

    def _quietly(self, browser, address, words, answers):
        with contextlib.suppress(httpx.HTTPError):
            answers.append(self.checked(browser.post(address, data=words, cookies=browser.cookies)))

    def ask(self, browser, uid, verb, **more):
        address = f"/engines/{uid}/{verb}/"
        page = self.checked(browser.get(address)).text
        if 'name="reason"' in page and 'name="ticket"' in page:
            words = {"ticket": hidden(page, "ticket"), "reason": f"{verb} by {self.email}", "deadline": "1"}
            self.send(browser, address, words | more)

    def decide(self, browser, page, steps):
        """Press one of the page's buttons, and say why in the dialog that it opens."""
        if found := re.findall(rf'href="(/[^"]+/(?:{"|".join(steps)})/)"', page):
            address = self.random.choice(found)
            shown = self.checked(browser.get(address)).text
            words = {"reason": "as the dice fell"}
            if digest := re.search(r'name="digest" value="([^"]+)"', shown):
                words["digest"] = unescape(digest[1])
            self.send(browser, address, words)


def extend(self, browser):
    uid = self.random.choice(self.rented)
    hours = self.random.choice(("0.25", "0.5", "1", "1.25", "1.5", "3"))  # the last one needs a second person
    page = self.checked(browser.get(f"/engines/{uid}/extend/", params={"hours": hours})).text
    if 'name="quote"' in page and 'name="reason"' in page:
        self.send(browser, f"/engines/{uid}/extend/", {"quote": hidden(page, "quote"), "reason": f"by {self.email}"})


def drain(self, browser):
    insisting = {"insist": "on"} if self.random.random() < 0.5 else {}
    self.ask(browser, self.random.choice(self.own), "drain", **insisting)


def stop(self, browser):
    self.ask(browser, self.random.choice(self.own), "stop")


def restart(self, browser):
    self.ask(browser, self.random.choice(self.rented), "restart")


def rename(self, browser):
    self.ask(browser, self.random.choice(self.own), "rename", name=f"engine-{self.random.randrange(99)}")


def update(self, browser):
    """Of an engine on a host of the team's own; or of a rented one, which cannot be and says so."""
    uids = self.own if self.random.random() < 0.9 else self.rented
    self.ask(browser, self.random.choice(uids), "update", version=self.random.choice(VERSIONS))


def drain_and_update(self, browser):
    """The one queued behind the other, if nothing else is under way."""
    uid = self.random.choice(self.own)
    self.ask(browser, uid, "drain")
    self.ask(browser, uid, "update", version=self.random.choice(VERSIONS))


def new_engine(self, browser):
    """Have the command of an engine on another host shown, and hand it to whoever runs it there."""
    page = self.checked(browser.get("/engines/new/")).text
    if 'name="ticket"' in page:
        words = {name: hidden(page, name) for name in ("connection", "ticket")}
        words |= {"name": f"{HOST}{self.random.randrange(10**9)}", "reason": f"by {self.email}"}
        for answer in self.send(browser, "/engines/new/", words):
            if key := re.search(r"INFERENCE_API_KEY=.(inf_[0-9A-Za-z_-]+)", unescape(answer.text)):
                self.fleet.keys_shown.append((words["name"], key[1]))


def order(self, browser):
    """Rent a machine; a second person is needed for the longest time."""
    if len(self.fleet.ordered) >= self.fleet.most_ordered:
        return
    asked = {"offer": MACHINE, "name": f"{ORDERED}{self.random.randrange(10**9)}"}
    asked["hours"] = self.random.choice(("1", "1", "1.5", "4"))
    for _ in range(RELOADS):
        page = self.checked(browser.get("/engines/new/cloud/order/", params=asked)).text
        if 'name="order"' in page:
            break
    if 'name="order"' in page and 'name="reason"' in page:
        words = {"order": hidden(page, "order"), "connection": hidden(page, "connection"), "reason": f"by {self.email}"}
        answers = self.send(browser, "/engines/new/cloud/order/", words)
        if any(answer.url.path.startswith(("/operations/", "/cloud-time/")) for answer in answers):
            self.fleet.ordered.append(asked["name"])


def decide(self, browser):
    """Look at an operation that is open, and decide something about it."""
    page = self.checked(browser.get("/operations/", params={"state": "open"})).text
    if found := re.findall(r'href="(/operations/[0-9a-f-]{36}/)"', page):
        page = self.checked(browser.get(self.random.choice(found[:20]))).text
        self.decide(browser, page, ("cancel", "keep-waiting", "send-again", "close"))


def approve(self, browser):
    page = self.checked(browser.get("/cloud-time/")).text
    self.decide(browser, page, ("approve", "approve", "reject") if self.random.random() < 0.2 else ("approve",))


def raise_the_limit(self, browser):
    """Let the team spend a little more. One person does it, so that no limit is ever lowered."""
    if self.email == "admin@demo.example":
        self.limit += RAISE
        words = LIMITS | {"team_day": str(self.limit), "reason": f"by {self.email}", **csrf(browser)}
        self.checked(browser.post("/cloud-time/limits/", data=words))


def many(self, browser):
    """Extend all rented engines at once, or drain the own ones."""
    verb, uids = self.random.choice((("extend", self.rented), ("extend", self.rented), ("drain", self.own)))
    address = f"/engines/many/{verb}/?hours=0.25&" + "&".join(f"uid={uid}" for uid in uids)
    page = self.checked(browser.get(address)).text
    if 'name="reason"' in page:
        words = {"ticket": hidden(page, "ticket"), "reason": f"many by {self.email}", "deadline": "1", "told": "72"}
        self.send(browser, address, words | {"despite": "on"})


def freeze(self, browser):
    """Stop all spending, and soon let it go on."""
    self.checked(browser.post("/cloud-time/freeze/", data={"reason": "a look", **csrf(browser)}))
    self.done.wait(self.random.uniform(0.2, 1.5))
    page = self.checked(browser.get("/cloud-time/freeze/")).text
    if 'name="lift"' in page:
        words = {"reason": "a look", "lift": hidden(page, "lift")}
        for _ in range(2):
            self.checked(browser.post("/cloud-time/freeze/", data=words | csrf(browser)))
            self.done.wait(self.random.uniform(0.2, 1.5))


def go_back(self, browser):
    """Send a form of long ago once more."""
    if self._old:
        address, words = self.random.choice(self._old)
        self.checked(browser.post(address, data=words | csrf(browser)))


def look_around(self, browser):
    self.checked(browser.get(self.random.choice(("/engines/", "/operations/", "/cloud-time/", "/audit/", "/keys/"))))


CLICKS = {
    extend: 12,
    drain: 3,
    stop: 0.5,
    restart: 0.5,
    rename: 1,
    update: 1,
    drain_and_update: 1,
    new_engine: 2,
    order: 4,
    decide: 4,
    approve: 4,
    many: 1,
    raise_the_limit: 2,
    freeze: 0.2,
    go_back: 2,
    look_around: 3,
}
