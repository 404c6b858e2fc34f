"""`make screenshots`: every page of a running `make run`, at 1280 and 390 px, light and dark, into var/screenshots.

Reads DEMO_PASSWORD, PORTAL_PORT and DATA_DIR as `make run` does. Prints what the browser's console complained about.
"""

import os
import sys
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.browser.chromium import ARGUMENTS, find

SIZES = {"1280": (1280, 900), "390": (390, 844)}
PAGES = {
    "fleet": "/engines/",
    "operations": "/operations/",
    "cloud-time": "/cloud-time/",
    "audit": "/audit/",
    "team": "/team/",
    "keys": "/keys/",
}


def main() -> int:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "var/screenshots")
    out.mkdir(parents=True, exist_ok=True)
    base = f"http://127.0.0.1:{os.environ.get('PORTAL_PORT', '8000')}"
    email = os.environ.get("AS", "admin@demo.example")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = browser.new_context(
                    base_url=base, color_scheme=scheme, viewport={"width": width, "height": height}
                )
                page = context.new_page()
                page.on("console", lambda message: complaints.append(message.text) if is_news(message) else None)
                page.on("pageerror", lambda error: complaints.append(str(error)))
                page.goto("/accounts/login/")
                page.screenshot(path=out / f"login-{size}-{scheme}.png")
                sign_in(page, email)
                shoot(page, out, f"{size}-{scheme}")
                context.close()
        browser.close()
    print("\n".join(complaints) or "The console is silent.")
    return 1 if complaints else 0


def is_news(message: ConsoleMessage) -> bool:
    """The browser's own word on a page that is not there is what that page is asked for."""
    return message.type == "error" and not message.location["url"].endswith("/nowhere/")


def sign_in(page: Page, email: str) -> None:
    page.fill("input[type=email], input[name=login]", email)
    page.fill("input[type=password]", password())
    page.click("button[type=submit]")
    page.wait_for_url("**/engines/")


def password() -> str:
    kept = Path(os.environ.get("DATA_DIR", "var")) / "secrets" / "demo_password"
    return os.environ.get("DEMO_PASSWORD") or kept.read_text().strip()


def shoot(page: Page, out: Path, suffix: str) -> None:
    def save(name: str) -> None:
        page.wait_for_timeout(300)
        page.screenshot(path=out / f"{name}-{suffix}.png", full_page=True)

    for name, url in PAGES.items():
        page.goto(url)
        save(name)
    for name, listing, link in (("engine", "/engines/", "#fleet a[href^='/engines/eng_']"),
                                ("operation", "/operations/", "#operations a[href^='/operations/']"),
                                ("entry", "/audit/", "main a[href^='/audit/']")):  # fmt: skip
        page.goto(listing)
        found = page.locator(link).first
        if found.count():
            page.goto(found.get_attribute("href") or listing)
            save(name)
    page.goto("/engines/")
    drain = page.locator("#fleet [hx-get$='/drain/']:not([disabled])").first
    if drain.count():
        drain.click()
        page.wait_for_selector("dialog[open]")
        save("drain")
    page.goto("/nowhere/")
    save("404")


if __name__ == "__main__":
    sys.exit(main())
