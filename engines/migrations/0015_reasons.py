from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('engines', "0014_settled_discrepancies"),
    ]

    operations = [
        migrations.AddField(
            model_name='moment',
            name='reason',
            field=models.CharField(blank=True, default='', max_length=500),
            preserve_default=False,
        ),
    ]
