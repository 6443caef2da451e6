import datetime

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_immutable_price_changes'),
    ]

    operations = [
        migrations.AddField(
            model_name='dunning',
            name='waited',
            field=models.DurationField(default=datetime.timedelta(0)),
        ),
        migrations.AddField(
            model_name='dunning',
            name='watched_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='dunning',
            name='next_on',
            field=models.DateField(null=True),
        ),
        migrations.AlterField(
            model_name='dunning',
            name='ended_because',
            field=models.CharField(blank=True, choices=[('paid', 'Paid'), ('operator', 'Ended by an operator')], max_length=8),
        ),
        migrations.AddIndex(
            model_name='invoice',
            index=models.Index(condition=models.Q(('paid__lt', models.F('total'))), fields=['organization', 'due_on'], name='invoice_unpaid'),
        ),
    ]
