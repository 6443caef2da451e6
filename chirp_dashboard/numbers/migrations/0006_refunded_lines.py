from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('numbers', '0005_follow_suspensions'),
    ]

    operations = [
        migrations.AddField(
            model_name='orderline',
            name='refunded_at',
            field=models.DateTimeField(help_text='When an operator took it back because it never worked.', null=True),
        ),
    ]
