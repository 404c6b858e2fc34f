"""Passwords known from breaches elsewhere, asked of Have I Been Pwned's range API or a mirror of it.

Five hexadecimal digits of the password's SHA-1 leave; the answer has every hash that begins so, padded with made-up
ones that were seen 0 times (https://haveibeenpwned.com/API/v3#PwnedPasswords).
"""

import hashlib
import logging
from typing import Any

import httpx
from django.conf import settings
from django.core.exceptions import ValidationError

log = logging.getLogger(__name__)

SECONDS = 3.0


class NotBreached:
    """A password validator. Where the service is away it lets pass: the list that comes with Django has been asked."""

    def validate(self, password: str, user: Any = None) -> None:
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        url = f"{settings.BREACHED_PASSWORDS_URL}/range/{digest[:5]}"
        try:
            answer = httpx.get(url, headers={"Add-Padding": "true"}, timeout=SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("a new password was not compared with breached ones: %s", error)
            return
        seen = dict(line.strip().split(":", 1) for line in answer.text.splitlines() if ":" in line)
        if seen.get(digest[5:], "0") != "0":
            raise ValidationError(
                "This password is known from a breach elsewhere. Choose another.", "password_breached"
            )

    def get_help_text(self) -> str:
        return "It must not be known from breaches elsewhere."
