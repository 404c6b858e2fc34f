"""No page is wider than its window, nor becomes so where a person looks closer: phone, tablet, desktop."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

ADMIN = "admin@demo.example"
WIDTHS = (320, 390, 768, 900, 1280)
WIDER = """() => {
  const wider = () => document.documentElement.scrollWidth > window.innerWidth;
  if (wider()) return "the page";
  for (const time of document.querySelectorAll("time.when")) {
    time.focus();
    if (wider()) return `the exact time of "${time.textContent}"`;
    time.blur();
  }
  return "";
}"""


@pytest.fixture
def engine(stack):
    """An engine that the portal knows."""
    stack.in_the_portal(stack.engine("a-workshop-with-a-long-name", cpus=2))
    yield "a-workshop-with-a-long-name"
    stack.kill("a-workshop-with-a-long-name")


def test_no_page_is_wider_than_its_window(visit, stack, engine):
    stack.run(on=engine, seconds=60)
    page = visit(ADMIN)
    page.get_by_role("link", name=engine, exact=True).click()
    page.wait_for_url("**/engines/eng_*/")
    address = page.url
    page.goto(f"{address}drain/")
    page.get_by_label("Why?").fill("Kernel patch, ticket OPS-123: an hour")
    page.get_by_role("button", name=f"Drain {engine}").click()
    page.wait_for_url("**/operations/*/")
    paths = [page.url, address, f"{address}update/", "/engines/", "/operations/", "/cloud-time/", "/audit/", "/keys/"]
    paths += ["/team/", "/engines/many/rename/?all=1&pattern={name}-of-the-east-wing-{n}"]
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        for path in paths:
            page.goto(path)
            if wider := page.evaluate(WIDER):
                found.append(f"{width} px, {path}: {wider}")
    assert found == []
