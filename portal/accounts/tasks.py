"""Celery: thin. Beat sends this every hour."""

from celery import shared_task


@shared_task(name="accounts.forget_expired")
def forget_expired() -> None:
    """Delete the counts of sign-in tries, and the sessions, that are over."""
    from portal import clock
    from portal.accounts import expired

    expired.forget(clock.now())
