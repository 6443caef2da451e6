from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('numbers', '0004_tax_of_orders'),
    ]

    operations = [
        migrations.AddField(
            model_name='totals',
            name='suspended_at',
            field=models.DateTimeField(help_text='Which suspension of the standing the numbers follow.', null=True),
        ),
        migrations.AddField(
            model_name='totals',
            name='is_suspending',
            field=models.BooleanField(db_default=False, default=False, help_text='Some of them are still to be suspended.'),
        ),
    ]
