"""New passwords are compared with those of breaches, if a list is configured; the password itself stays here."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import env
from portal.accounts.breached import is_listed
from portal.accounts.models import User

pytestmark = pytest.mark.django_db
KNOWN, OLD = "tr0ub4dor and three", "correct horse battery"


class RangeServer:
    """Speaks Have I Been Pwned's range API; knows `KNOWN`, and pads with `OLD` as one does that was never seen."""

    def __init__(self):
        self.asked = []
        self.status = 200
        server = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append((self.path, self.headers["Add-Padding"]))
                hashes = [(hashed(KNOWN), 42), (hashed("some other words"), 0)]
                body = "\r\n".join(f"{each[5:]}:{count}" for each, count in hashes).encode()
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)


def hashed(password):
    return hashlib.sha1(password.encode()).hexdigest().upper()


@pytest.fixture
def ranges(settings):
    server = RangeServer()
    settings.BREACHED_PASSWORDS_URL = server.url
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": "portal.accounts.breached.NotBreached"}]
    yield server
    server.stop()


def change(browser, new):
    return browser.post("/accounts/password/", {"oldpassword": OLD, "password1": new, "password2": new})


def opens(user, password):
    return User.objects.get(pk=user.pk).check_password(password)


def test_a_breached_password_is_refused(ranges, confirmed, olga):
    assert "known from a breach" in change(confirmed(olga), KNOWN).content.decode()
    assert opens(olga, OLD)


@pytest.mark.parametrize("new", ["words that nobody has", "some other words"], ids=["unknown", "padding"])
def test_any_other_is_taken(ranges, confirmed, olga, new):
    change(confirmed(olga), new)
    assert opens(olga, new)


def test_five_digits_of_its_hash_are_all_that_leaves(ranges, confirmed, olga):
    change(confirmed(olga), "words that nobody has")
    assert set(ranges.asked) == {(f"/range/{hashed('words that nobody has')[:5]}", "true")}


def test_where_the_list_is_away_it_is_taken_and_the_log_says_so(ranges, confirmed, olga, caplog):
    ranges.status = 503
    change(confirmed(olga), KNOWN)
    assert opens(olga, KNOWN)
    assert "not compared with breached ones" in caplog.text
    assert KNOWN not in caplog.text


@pytest.fixture
def listed(tmp_path, settings):
    """The list as a file, of the passwords that are given."""
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": "portal.accounts.breached.NotListed"}]
    settings.BREACHED_PASSWORDS_FILE = tmp_path / "pwnedpasswords.txt"

    def write(*passwords, end="\r\n"):
        hashes = sorted(hashed(password) for password in passwords)
        settings.BREACHED_PASSWORDS_FILE.write_bytes("".join(f"{one}:{7}{end}" for one in hashes).encode())

    return write


def test_a_password_of_the_file_is_refused_and_others_are_taken(listed, confirmed, olga):
    listed(KNOWN, *(f"another one {number}" for number in range(100)))
    assert "known from a breach" in change(confirmed(olga), KNOWN).content.decode()
    assert opens(olga, OLD)
    change(confirmed(olga), "words that nobody has")
    assert opens(olga, "words that nobody has")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 8, 33])
def test_every_line_of_the_file_is_found_and_nothing_between_them(listed, settings, number, end):
    there, path = [f"there {one}" for one in range(number)], settings.BREACHED_PASSWORDS_FILE
    listed(*there, end=end)
    assert [one for one in there if not is_listed(path, hashed(one).encode())] == []
    assert [one for one in range(50) if is_listed(path, hashed(f"elsewhere {one}").encode())] == []


def test_without_the_file_no_password_is_taken(listed, confirmed, olga):
    assert "cannot be read" in change(confirmed(olga), "words that nobody has").content.decode()
    assert opens(olga, OLD)


def test_a_file_that_is_not_there_is_refused_at_start(monkeypatch, tmp_path):
    monkeypatch.setenv("BREACHED_PASSWORDS_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ImproperlyConfigured, match="BREACHED_PASSWORDS_FILE"):
        env.breached_passwords()
