from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('vault', '0003_connection_skew'),
    ]

    operations = [
        migrations.AddField(
            model_name='connection',
            name='last_answer',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='storedkey',
            name='last_answer',
            field=models.JSONField(default=dict),
        ),
    ]
