"""Calls go to the addresses that were looked at, over real sockets; only the resolver is a stand-in."""

import datetime
import ipaddress
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engines.api import errors
from engines.api.client import EnginesClient
from engines.api.pinned import Pinned
from tests.api.faults import Key

FRIEND, INSIDE = ip_address("127.0.0.2"), ip_address("127.0.0.1")


class Served(ThreadingHTTPServer):
    """Answers what is asked, and remembers the Host and the key."""

    daemon_threads = True

    def __init__(self, where, context=None, redirect=""):
        super().__init__((str(where), 0), Answer)
        self.seen, self.redirect = [], redirect
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_):
        pass


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.headers["Host"], self.headers["Authorization"]))
        self.send_response(302 if self.server.redirect else 200)
        if self.server.redirect:
            self.send_header("Location", self.server.redirect)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"id": "me"}')

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    running = []

    def start(where, **more):
        running.append(Served(where, **more))
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def resolver(monkeypatch):
    """Names and the answers that looking them up gives, one after the other; the last one stays."""
    names, real = {}, socket.getaddrinfo
    asked = []

    def look_up(host, port, *args, **more):
        name = host.decode() if isinstance(host, bytes) else host
        if name in names:
            asked.append(name)
            answers = names[name]
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port or 0)) for one in found]
        return real(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    names["asked"] = asked
    return names


def client(url, may_reach=lambda address: address == FRIEND):
    return EnginesClient(base_url=url, key=Key("inf_key"), may_reach=may_reach, timeout=2)


def test_a_name_is_called_where_it_led_when_it_was_looked_up(serve, resolver):
    server = serve(FRIEND)
    resolver["rebind.example"] = [["127.0.0.2"], ["127.0.0.1"]]
    with client(f"http://rebind.example:{server.server_port}") as api:
        assert api.me() == {"id": "me"}
    assert server.seen == [(f"rebind.example:{server.server_port}", "Bearer inf_key")]
    assert resolver["asked"] == ["rebind.example"]


def test_a_name_that_begins_to_lead_inside_is_called_no_more(serve, resolver):
    inside = serve(INSIDE)
    resolver["rebind.example"] = [["127.0.0.2"], ["127.0.0.1"]]
    with client(f"http://rebind.example:{inside.server_port}") as api:
        for _ in range(2):
            with pytest.raises(errors.NotSent):
                api.me()
    assert inside.seen == []


def test_a_name_of_which_one_address_leads_inside_is_not_called_at_all(serve, resolver):
    server = serve(FRIEND)
    resolver["both.example"] = [["127.0.0.2", "127.0.0.1"]]
    with client(f"http://both.example:{server.server_port}") as api, pytest.raises(errors.NotSent, match="may not"):
        api.me()
    assert server.seen == []


def test_the_second_address_is_called_if_the_first_does_not_listen(serve, resolver):
    server = serve(FRIEND)
    resolver["two.example"] = [["127.0.0.3", "127.0.0.2"]]
    url = f"http://two.example:{server.server_port}"
    with client(url, may_reach=lambda address: address.is_loopback) as api:
        assert api.me() == {"id": "me"}


def test_an_answer_that_leads_elsewhere_is_not_followed(serve, resolver):
    inside = serve(INSIDE)
    server = serve(FRIEND, redirect=f"http://127.0.0.1:{inside.server_port}/me")
    with client(f"http://127.0.0.2:{server.server_port}") as api, pytest.raises(errors.ApiError):
        api.me()
    assert inside.seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1", "0x7f.1"])
def test_however_this_machine_is_spelled_it_is_not_called(serve, host):
    inside = serve(INSIDE)
    with client(f"http://{host}:{inside.server_port}") as api, pytest.raises(errors.NotSent):
        api.me()
    assert inside.seen == []


def test_what_is_said_of_a_refused_address_tells_nothing_of_what_is_there(serve):
    inside = serve(INSIDE)
    said = []
    for port in (inside.server_port, 40001):
        with client(f"http://127.0.0.1:{port}") as api, pytest.raises(errors.NotSent) as caught:
            api.me()
        said.append(str(caught.value).replace(str(port), "PORT"))
    assert said[0] == said[1]


def test_a_name_that_leads_nowhere_is_said_to(resolver):
    with client("http://api.invalid") as api, pytest.raises(errors.NotSent, match="Nothing was sent"):
        api.me()


def certificate(folder, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = folder / "server.pem"
    pem.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return pem


def test_the_certificate_is_that_of_the_name(serve, resolver, tmp_path):
    pem = certificate(tmp_path, "api.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    port = serve(FRIEND, context=context).server_port
    resolver["api.example"] = resolver["other.example"] = [["127.0.0.2"]]
    trusting = ssl.create_default_context(cafile=str(pem))
    with httpx.Client(transport=Pinned(lambda address: isinstance(address, ipaddress.IPv4Address), trusting)) as http:
        assert http.get(f"https://api.example:{port}/me").json() == {"id": "me"}
        with pytest.raises(httpx.ConnectError, match="certificate"):
            http.get(f"https://other.example:{port}/me")
