"""An httpx transport that goes only where it may: names are looked up once, and what was looked up is what is called.

A check before the call alone would not do: a name may lead somewhere else a moment later (DNS rebinding).
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from ssl import SSLContext

import httpx

Address = IPv4Address | IPv6Address
MOST_TRIED = 3  # of a name's addresses


class Pinned(httpx.BaseTransport):
    """Connects to the addresses that the host's name has at the first look, if `may_reach` allows every one of them.

    Host header and certificate are those of the name. Raises httpx.ConnectError before a byte is sent.
    """

    def __init__(self, may_reach: Callable[[Address], bool], verify: SSLContext | bool) -> None:
        self._may_reach = may_reach
        self._inner = httpx.HTTPTransport(verify=verify, trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        addresses = look_up(host)
        if not all(self._may_reach(address) for address in addresses):
            raise httpx.ConnectError("it leads to an address that connections may not reach")
        extensions = {**request.extensions, "sni_hostname": host}
        failure: httpx.TransportError = httpx.ConnectError("its name has no address")
        for address in addresses[:MOST_TRIED]:
            url = request.url.copy_with(host=str(address))
            pinned = httpx.Request(
                request.method, url, headers=request.headers, stream=request.stream, extensions=extensions
            )
            try:
                return self._inner.handle_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: the next one may do
                failure = error
        raise failure

    def close(self) -> None:
        self._inner.close()


def look_up(host: str) -> list[Address]:
    """Return the host's addresses, in the order in which to try them. Raises httpx.ConnectError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(str(error)) from None
    return list(dict.fromkeys(ip_address(each[4][0]) for each in found))
