"""The ledger takes no UPDATE, DELETE, TRUNCATE or overwriting INSERT from here on."""

from django.db import migrations

from engines.money.guard import LEDGER


class Migration(migrations.Migration):
    dependencies = [("engines", "0005_bulk")]

    operations = [migrations.RunPython(LEDGER.put_up_in_migration, LEDGER.lower_in_migration)]
