"""What people see when something is wrong: a sentence, a way out, the request id, and never a traceback."""

import pytest
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from portal.urls import *  # noqa: F403 (the portal's own handlers, and its addresses)
from portal.urls import urlpatterns as addresses


def broken(request):
    raise RuntimeError("the canary is inf_CANARY")


urlpatterns = [*addresses, path("broken/", csrf_exempt(broken), name="home")]
ID = {"X-Request-ID": "req-42"}


@pytest.fixture
def stranger():
    return Client(raise_request_exception=False, enforce_csrf_checks=True, headers=ID)


@pytest.mark.urls("tests.portal.test_errors")
class TestServerError:
    def test_it_names_the_request_and_nothing_else(self, stranger, db):
        answer = stranger.get("/broken/")
        page = answer.content.decode()
        assert (answer.status_code, answer["X-Request-ID"]) == (500, "req-42")
        assert "req-42" in page
        assert "CANARY" not in page
        assert "Traceback" not in page

    def test_it_carries_the_content_policy(self, stranger, db):
        assert "script-src 'self'" in stranger.get("/broken/")["Content-Security-Policy"]

    def test_it_needs_no_database(self, stranger, monkeypatch):
        monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", broken)
        assert stranger.get("/broken/").status_code == 500

    def test_without_static_files_it_is_plain_text(self, stranger, db, settings):
        settings.STORAGES = settings.STORAGES | {
            "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
        }
        answer = stranger.get("/broken/")
        assert answer["Content-Type"].startswith("text/plain")
        assert "req-42" in answer.content.decode()


def test_an_address_that_is_not_there(stranger, db):
    answer = stranger.get("/nowhere/")
    assert answer.status_code == 404
    assert "req-42" in answer.content.decode()


def test_a_host_that_is_not_ours(stranger, db):
    answer = stranger.get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "req-42" in answer.content.decode()
    assert "evil.example" not in answer.content.decode()


def test_a_form_without_its_token(stranger, db):
    answer = stranger.post("/accounts/login/", {"login": "a@b.example", "password": "x"})
    assert answer.status_code == 403
    assert "open too long" in answer.content.decode()
    assert "req-42" in answer.content.decode()
