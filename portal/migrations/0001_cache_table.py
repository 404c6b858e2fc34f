"""The table behind Django's cache: sign-in throttling is kept there, so that it holds while the broker is away."""

from django.core.management import call_command
from django.db import migrations


def create(apps, schema_editor):
    if schema_editor.connection.alias == "default":
        call_command("createcachetable", database="default", verbosity=0)


class Migration(migrations.Migration):
    dependencies = []
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
