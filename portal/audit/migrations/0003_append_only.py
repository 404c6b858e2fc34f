"""The log takes no UPDATE, DELETE, TRUNCATE or overwriting INSERT from here on."""

from django.db import migrations

from portal.audit.guard import lower_in_migration, put_up_in_migration


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_seals")]

    operations = [migrations.RunPython(put_up_in_migration, lower_in_migration)]
