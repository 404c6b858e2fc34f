"""ASVS 3.3, 3.4, 12.3.2, 13.4, 14.3 and the deployment checklist: what a browser gets from a portal behind TLS."""

import datetime
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engines.api import errors
from engines.api.client import EnginesClient
from tests.api.contract import Key

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "ALLOWED_HOSTS": "portal.example",
    "SECRET_KEY": "for-the-checks-only-0123456789-abcdefghijklmnopqrstuvwxyz",
    "VAULT_KEYS": "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "DJANGO_SETTINGS_MODULE": "portal.settings",
}
ASK = """
import django, json
django.setup()
from django.conf import settings
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
from django.test import Client
from portal.accounts.models import User, Team, Membership
ada = User.objects.create_user("ada@acme.example", "correct horse battery")
Membership.objects.create(user=ada, team=Team.objects.create(slug="acme", name="Acme"), role="admin")
client = Client(headers={"Host": "portal.example"}, raise_request_exception=False)
form = {"login": "ada@acme.example", "password": "correct horse battery"}
answers = {
    "plain": client.get("/accounts/login/"),
    "login": client.get("/accounts/login/", secure=True),
    "signed in": client.post("/accounts/login/", form, secure=True),
    "page": client.get("/team/", secure=True),
    "missing": client.get("/nowhere/", secure=True),
    "healthz": client.get("/healthz", secure=True),
    "signed out": client.post("/accounts/logout/", secure=True),
}
cookie = lambda one: {key: str(value) for key, value in one.items() if value} | {"name": one.key}
print(json.dumps({name: {
    "status": one.status_code, "headers": dict(one.headers), "body": one.content.decode(),
    "cookies": [cookie(value) for value in one.cookies.values()],
} for name, one in answers.items()}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a portal with the settings of a deployment answers; in a process of its own, for they are read once."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | SETTINGS | {"DATA_DIR": str(tmp_path_factory.mktemp("deployed"))}
    done = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_plain_http_is_sent_to_https(answers):
    assert answers["plain"]["status"] == 301
    assert answers["plain"]["headers"]["Location"] == "https://portal.example/accounts/login/"


def test_cookies_are_bound_to_host_and_tls(answers):
    cookies = {one["name"]: one for name in ("login", "signed in") for one in answers[name]["cookies"]}
    assert {"__Host-sessionid", "__Host-csrftoken"} <= set(cookies)
    for one in cookies.values():
        assert one["secure"] == "True"
        assert one["path"] == "/"
        assert "domain" not in one
        assert one["samesite"] in ("Lax", "Strict")
    assert cookies["__Host-sessionid"]["httponly"] == "True"


@pytest.mark.parametrize("name", ["login", "signed in", "page", "missing", "signed out"])
def test_every_answer_insists_on_tls_for_a_year(answers, name):
    policy = answers[name]["headers"]["Strict-Transport-Security"]
    assert int(re.search(r"max-age=(\d+)", policy)[1]) >= 31_536_000
    assert "includeSubDomains" in policy


@pytest.mark.parametrize("name", ["login", "page", "missing", "healthz"])
def test_no_header_names_what_it_runs_on(answers, name):
    said = json.dumps(answers[name]["headers"])
    assert not re.search(r"(?i)django|python|uvicorn|celery|\b\d+\.\d+\.\d+\b", said)


def test_the_health_check_says_nothing_else(answers):
    assert json.loads(answers["healthz"]["body"]) == {"status": "ok"}


def test_a_missing_page_explains_nothing_of_the_inside(answers):
    assert "Using the URLconf" not in answers["missing"]["body"]
    assert "Traceback" not in answers["missing"]["body"]


def test_signing_out_leaves_nothing_in_the_browser(answers):
    assert '"storage"' in answers["signed out"]["headers"]["Clear-Site-Data"]
    assert "no-store" in answers["page"]["headers"]["Cache-Control"]


def test_a_password_alone_opens_no_page(answers):
    assert answers["page"]["headers"]["Location"] == "/accounts/second-factor/"


@pytest.fixture
def self_signed(tmp_path):
    """An HTTPS server whose certificate nobody vouches for; its address, and what it got to see."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # the client hangs up: that is the point
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    signed = built.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return pem


def test_an_api_that_cannot_prove_who_it_is_never_sees_the_key(self_signed):
    address, seen = self_signed
    with EnginesClient(base_url=address, key=Key("inf_secret")) as client, pytest.raises(errors.NotSent):
        client.get("eng_1")
    assert seen == []
