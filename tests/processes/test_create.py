"""The command that the page of a new engine shows, run as it stands: the engine is in the fleet."""

import html
import os
import re
import signal
import subprocess
from urllib.parse import quote

import pytest

from engines.agent.package import build
from tests.harness import csrf, hidden, wait_for
from tests.processes.test_canary import dump

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
NAME = "Käthe's rack, 1"


@pytest.fixture(scope="module")
def page(stack):
    """What the Admin sees after asking for the new engine."""
    build("v5.2.0", stack.place.data / "dist")
    browser = stack.sign_in("admin@demo.example")
    form = browser.get("/engines/new/").raise_for_status().text
    words = {"name": NAME, "reason": "the new rack"} | {name: hidden(form, name) for name in ("connection", "ticket")}
    return browser, browser.post("/engines/new/", data=words | csrf(browser)).raise_for_status().text


@pytest.fixture(scope="module")
def command(page):
    return html.unescape(re.search(r'<pre id="start-command">(.*?)</pre>', page[1], re.DOTALL)[1])


@pytest.fixture(scope="module")
def started(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    with (folder / "output").open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, start_new_session=True, stdout=output, stderr=output
        )
    yield folder
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


def test_the_engine_that_the_command_starts_shows_up(stack, page, started):
    browser, shown = page
    waiting = html.unescape(re.search(r'hx-get="([^"]+)"', shown)[1])
    assert "Waiting" in browser.get(waiting).text
    wait_for(lambda: "Connected" in browser.get(waiting).text, 60, f"engine ({(started / 'output').read_text()})")
    uid = stack.running_engine(NAME)
    assert f'href="/engines/{uid}/"' in browser.get(waiting).text
    assert stack.query(f"SELECT version FROM engines_engine WHERE uid = '{uid}'") == [("v5.2.0",)]


def test_its_key_is_in_no_file_of_the_portal_and_on_no_other_page(stack, page, command, started):
    browser, _ = page
    key = re.search(r"INFERENCE_API_KEY='(inf_[^']+)'", command)[1].encode()
    wait_for(lambda: stack.running_engine(NAME), 60, "engine")
    kept = [path for path in stack.place.data.rglob("*") if path.is_file() and key in path.read_bytes()]
    pages = [
        "/audit/",
        "/keys/",
        "/engines/",
        "/engines/new/",
        f"/engines/new/waiting/?connection=1&name={quote(NAME)}",
    ]
    assert kept == []
    assert key not in dump(stack)
    assert [path for path in pages if key in browser.get(path).content] == []


def test_its_key_has_one_scope_and_makes_no_other_keys(stack, command):
    key = re.search(r"INFERENCE_API_KEY='(inf_[^']+)'", command)[1]
    with stack.api(key) as api:
        assert api.get("/me").json()["key"]["scopes"] == ["engines:write"]
        assert api.post("/apikeys", json={"name": "another"}).status_code == 403
