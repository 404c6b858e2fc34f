"""Mail, where it is configured. Nothing depends on it: what is mailed is on a page too."""

import logging
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail

log = logging.getLogger(__name__)


def is_configured() -> bool:
    return bool(settings.EMAIL_HOST)


def send(to: str, subject: str, body: str) -> bool:
    """Hand a mail to the mail server, within EMAIL_TIMEOUT; say whether it took it."""
    try:
        return bool(send_mail(" ".join(subject.split()), body, None, [to]))
    except (OSError, SMTPException, ValueError):  # ValueError: an address or subject that no mail may have
        log.warning("a mail could not be sent: %s", subject, exc_info=True)
        return False
