"""Where keys may be sent: the addresses of RELIABILITY 5.5, one by one."""

from ipaddress import ip_address

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from portal.vault.addresses import BadAddress, checked, is_listed, may_reach

ELSEWHERE = [
    "http://api.inference.sh",
    "file:///etc/passwd",
    "gopher://api.inference.sh",
    "api.inference.sh",
    "",
    "https://",
    "https://127.0.0.1",
    "https://127.1",
    "https://2130706433",
    "https://0x7f.1",
    "https://0x7f000001",
    "https://0177.0.0.1",
    "https://[::1]",
    "https://[::ffff:127.0.0.1]",
    "https://[64:ff9b::7f00:1]",
    "https://[fe80::1]",
    "https://[fd00::1]",
    "https://169.254.169.254",
    "https://100.64.0.1",
    "https://10.0.0.1",
    "https://192.168.1.1",
    "https://224.0.0.1",
    "https://0.0.0.0",
    "https://localhost.",
    "https://api.inference.sh@127.0.0.1/",
    "https://me:pw@api.inference.sh",
    "https://@api.inference.sh",
    "https://api.inference.sh/a?b",
    "https://api.inference.sh/?",
    "https://api.inference.sh/#",
    "https://api.inference.sh/a\r\nX: y",
    "https://api.inference.sh/a b",
    "https://api.inference.sh\\@evil.example",
    "https://api.inference.sh/../x",
    "https://api.inference.sh//x",
    "https://api.inference.sh/%2e%2e",
    "https://api.inference.sh:0x50",
    "https://api.inference.sh:99999",
    "https://api inference.sh",
    "https://api..inference.sh",
    "https://-.example",
    "https://\0.example",
    "https://" + "a" * 400 + ".example",
]


@pytest.fixture(autouse=True)
def no_networks_of_our_own(settings):
    settings.CONNECTION_NETWORKS = []
    settings.CONNECTION_HOSTS = ["api.inference.sh"]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_no_key_is_sent_there(url):
    with pytest.raises(BadAddress):
        checked(url)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://api.inference.sh", "https://api.inference.sh"),
        ("HTTPS://API.Inference.SH/", "https://api.inference.sh"),
        ("https://api.inference.sh:443/v1/", "https://api.inference.sh/v1"),
        ("https://api.inference.sh:8443", "https://api.inference.sh:8443"),
        ("https://api\u3002inference.sh", "https://api.inference.sh"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://93.184.216.34", "https://93.184.216.34"),
        ("https://[2606:4700::1111]:8443", "https://[2606:4700::1111]:8443"),
    ],
)
def test_an_address_has_one_spelling(url, same):
    assert checked(url) == same
    assert checked(same) == same


@pytest.mark.parametrize(
    "url", ["https://api.inference.sh.evil.tld", "https://evil.tld", "https://api.inference.sh:8443", "https://sh"]
)
def test_what_is_not_listed_is_not_listed(url):
    assert not is_listed(checked(url))


@pytest.mark.parametrize("url", ["https://api.inference.sh", "https://API.inference.sh:443/v1"])
def test_what_is_listed_is(url):
    assert is_listed(checked(url))


def test_a_star_lists_every_host_on_the_usual_port(settings):
    settings.CONNECTION_HOSTS = ["*", "odd.example:8443"]
    addresses = ("https://any.example", "https://any.example:22", "https://odd.example:8443", "http://localhost:80")
    assert [is_listed(checked(url)) for url in addresses] == [True, False, True, False]


@pytest.mark.parametrize(("listed", "may"), [("localhost", False), ("localhost:443", False), ("localhost:80", True)])
def test_without_tls_a_host_is_listed_by_its_port_alone(settings, listed, may):
    settings.CONNECTION_HOSTS = [listed]
    assert is_listed(checked("http://localhost")) is may


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001::1",
        "fec0::1",
    ],
)
def test_no_connection_leads_inside(address):
    assert not may_reach(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"])
def test_the_public_internet_is_reached_with_tls_alone(address):
    assert may_reach(ip_address(address))
    assert not may_reach(ip_address(address), secure=False)


def test_a_network_that_is_named_is_reached(settings):
    settings.CONNECTION_NETWORKS = ["10.1.0.0/16"]
    found = [may_reach(ip_address(one)) for one in ("10.1.2.3", "10.2.0.1", "::ffff:10.1.2.3", "127.0.0.1")]
    assert found == [True, False, True, False]
    assert not may_reach(ip_address("10.1.2.3"), secure=False)


def test_this_machine_is_reached_without_tls_if_it_is_named(settings):
    settings.CONNECTION_NETWORKS = ["127.0.0.0/8", "::1/128"]
    assert may_reach(ip_address("127.0.0.1"), secure=False)
    assert checked("http://127.0.0.1:8001/") == "http://127.0.0.1:8001"
    assert checked("http://[::1]:8001") == "http://[::1]:8001"


def test_the_portal_does_not_start_with_a_network_that_is_none(settings):
    settings.CONNECTION_NETWORKS = ["10.1.0.0/99"]
    with pytest.raises(ImproperlyConfigured, match="CONNECTION_NETWORKS"):
        apps.get_app_config("vault").ready()
