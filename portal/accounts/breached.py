"""Passwords known from breaches elsewhere: asked of Have I Been Pwned's range API or a mirror of it, or looked up in
its list as a file.

Of the API: five hexadecimal digits of the password's SHA-1 leave; the answer has every hash that begins so, padded with
made-up ones that were seen 0 times (https://haveibeenpwned.com/API/v3#PwnedPasswords).
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.exceptions import ValidationError

log = logging.getLogger(__name__)

SECONDS = 3.0
DIGITS = 40
HELP = "It must not be known from breaches elsewhere."
REFUSED = ValidationError("This password is known from a breach elsewhere. Choose another.", "password_breached")


class NotBreached:
    """A password validator. Where the service is away it lets pass: the list that comes with Django has been asked."""

    def validate(self, password: str, user: Any = None) -> None:
        digest = digest_of(password)
        url = f"{settings.BREACHED_PASSWORDS_URL}/range/{digest[:5]}"
        try:
            answer = httpx.get(url, headers={"Add-Padding": "true"}, timeout=SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("a new password was not compared with breached ones: %s", error)
            return
        seen = dict(line.strip().split(":", 1) for line in answer.text.splitlines() if ":" in line)
        if seen.get(digest[5:], "0") != "0":
            raise REFUSED

    def get_help_text(self) -> str:
        return HELP


class NotListed:
    """A password validator by a file of one's own. Where that cannot be read, no password is taken."""

    def validate(self, password: str, user: Any = None) -> None:
        path = Path(settings.BREACHED_PASSWORDS_FILE or "")
        try:
            found = is_listed(path, digest_of(password).encode())
        except OSError as error:
            log.error("BREACHED_PASSWORDS_FILE cannot be read: %s", error)
            why = "The list of breached passwords cannot be read. Tell who runs this portal."
            raise ValidationError(why, "password_not_compared") from error
        if found:
            raise REFUSED

    def get_help_text(self) -> str:
        return HELP


def is_listed(path: Path, digest: bytes) -> bool:
    """Look the hash up in lines of `HASH:count` that are sorted by hash, by halves: the list has a billion."""
    with path.open("rb") as lines:

        def line_from(place: int) -> bytes:
            """Return the first hash whose line begins there or later; nothing at the end."""
            lines.seek(max(place - 1, 0))
            if place:
                lines.readline()
            return lines.readline()[:DIGITS].upper()

        low, high = 0, lines.seek(0, os.SEEK_END)
        while low < high:
            middle = (low + high) // 2
            here = line_from(middle)
            low, high = (middle + 1, high) if here and here < digest else (low, middle)
        return line_from(low) == digest


def digest_of(password: str) -> str:
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
