"""Accounts made by an invitation whose link an admin could see: nobody knows whose they are."""

from datetime import timedelta

from django.db import migrations, models
from django.db.models import F


def doubt_the_invited(apps, schema_editor):
    users = apps.get_model("accounts", "User").objects.using(schema_editor.connection.alias)
    invitations = apps.get_model("accounts", "Invitation").objects.using(schema_editor.connection.alias)
    joined, minute = F("accepted_by__date_joined"), timedelta(minutes=1)  # with it: others had their account before
    made = invitations.filter(accepted_at__range=(joined - minute, joined + minute))
    invited = made.values("accepted_by")
    users.filter(pk__in=invited, identities__isnull=True).update(unproven_since=F("date_joined"))


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_identity")]
    operations = [
        migrations.AddField("user", "unproven_since", models.DateTimeField(null=True)),
        migrations.RunPython(doubt_the_invited, migrations.RunPython.noop),
    ]
