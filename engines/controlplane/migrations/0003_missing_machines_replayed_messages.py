from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("controlplane", "0002_cloud_money_updates")]

    operations = [
        migrations.AddField("answered", "messages", models.JSONField(null=True)),
        migrations.AddField("instance", "missing_since", models.DateTimeField(null=True)),
    ]
