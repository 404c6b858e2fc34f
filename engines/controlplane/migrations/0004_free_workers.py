from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("controlplane", "0003_missing_machines_replayed_messages")]

    operations = [
        migrations.AddIndex(
            "engine",
            models.Index(
                fields=["team", "name", "id"],
                condition=Q(session__isnull=False, state="running", mode="running"),
                name="engine_takes_tasks",
            ),
        ),
        migrations.AddIndex(
            "engine", models.Index(fields=["held_by"], condition=Q(session__isnull=False), name="engine_held")
        ),
        migrations.AddIndex("worker", models.Index(fields=["id"], condition=~Q(warm_apps=[]), name="worker_warm")),
    ]
