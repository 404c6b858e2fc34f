"""Where people's keys may be sent (RELIABILITY 5.5): how an address is written, and which machines it may lead to."""

import re
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import idna
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

Address = IPv4Address | IPv6Address
LONGEST = 300
PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last part of a name it makes old resolvers read an IP address
UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("64:ff9b:1::/48"))


class BadAddress(Exception):
    """No key is sent there. `str()` says why, for people."""


def checked(url: str) -> str:
    """Return the address in its one spelling, without a trailing slash. Raises BadAddress."""
    if len(url) > LONGEST or not url.isprintable() or " " in url or "\\" in url:
        raise BadAddress("This is not an address.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadAddress("This is not an address.") from None
    if parts.username is not None or parts.password is not None or "?" in url or "#" in url:
        raise BadAddress("The address is https://host and perhaps a path: no name, password, ? or #.")
    host = _host(parts.hostname or "")
    if not PATH.fullmatch(parts.path):
        raise BadAddress("The path has characters that do not belong there.")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        raise BadAddress("The address must begin with https://; http:// is for this machine alone.")
    standard = port is None or port == (443 if parts.scheme == "https" else 80)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{'' if standard else f':{port}'}{parts.path}".rstrip("/")


def is_listed(url: str) -> bool:
    """Say whether admins may enter this address: CONNECTION_HOSTS names its host, and its port if it is not 443.

    `*` stands for every host on port 443. The address is one that `checked` returned, without its scheme's own port.
    """
    parts = urlsplit(url)
    if parts.port is None and parts.scheme != "https":
        return f"{parts.netloc}:80" in settings.CONNECTION_HOSTS
    return parts.netloc in settings.CONNECTION_HOSTS or ("*" in settings.CONNECTION_HOSTS and parts.port is None)


def may_reach(address: Address, *, secure: bool = True) -> bool:
    """Say whether a connection may lead to this machine: one of the public internet, or of CONNECTION_NETWORKS.

    Without TLS (`secure` False) only this machine itself, and only if CONNECTION_NETWORKS names it.
    """
    real = _unwrapped(address)
    if any(real in network for network in networks(tuple(settings.CONNECTION_NETWORKS))):
        return secure or real.is_loopback
    if not secure or any(real in tunnel for tunnel in TUNNELS):
        return False
    if isinstance(real, IPv6Address) and real not in UNICAST:
        return False
    return real.is_global and not (real.is_multicast or real.is_reserved)


@cache
def networks(names: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    """Read CONNECTION_NETWORKS. Raises ImproperlyConfigured."""
    try:
        return [ip_network(name) for name in names]
    except ValueError as error:
        raise ImproperlyConfigured(f"CONNECTION_NETWORKS: {error}.") from None


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _host(name: str) -> str:
    """Return a host as it is looked up: an IP address, or a name in ASCII. Raises BadAddress."""
    try:
        address = ip_address(name)
    except ValueError:
        address = None
    if address is not None:
        if not may_reach(address):
            raise BadAddress("Connections may not lead to this address.")
        return str(address)
    try:
        found = idna.encode(name, uts46=True).decode().lower()
    except idna.IDNAError:
        raise BadAddress("This host's name is not one that can be looked up.") from None
    if found.endswith(".") or NUMBER.fullmatch(found.rpartition(".")[2]):
        raise BadAddress("This host's name is not one that can be looked up.")
    return found


def _is_here(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")
