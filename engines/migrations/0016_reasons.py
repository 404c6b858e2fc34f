from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('engines', '0012_order_of_verbs'),
    ]

    operations = [
        migrations.AddField(
            model_name='moment',
            name='reason',
            field=models.CharField(blank=True, default='', max_length=500),
            preserve_default=False,
        ),
    ]
