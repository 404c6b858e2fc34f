"""What is over and only takes room: counts of sign-in tries, marks of used codes, sessions."""

from datetime import datetime, timedelta

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection


def forget(now: datetime) -> None:
    Session.objects.filter(expire_date__lt=now).delete()
    # Where somebody was signed in: no session lasts longer than that.
    UserSession.objects.filter(created_at__lt=now - timedelta(seconds=settings.SESSION_COOKIE_AGE)).delete()
    # Django deletes such rows only once there are MAX_ENTRIES, and then living ones with them.
    table = connection.ops.quote_name(str(settings.CACHES["default"]["LOCATION"]))
    with connection.cursor() as cursor:
        over = connection.ops.adapt_datetimefield_value(now.replace(microsecond=0))
        cursor.execute(f"DELETE FROM {table} WHERE expires < %s", [over])  # noqa: S608 (the table is a setting's)
