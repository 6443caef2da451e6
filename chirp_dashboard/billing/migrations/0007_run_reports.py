from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0006_watch_the_ladder"),
    ]

    operations = [
        migrations.AddField(
            model_name="billingrun",
            name="repeated_at",
            field=models.DateTimeField(
                help_text="When a later run last found that nothing more was due.", null=True
            ),
        ),
        migrations.AddField(
            model_name="billingrun",
            name="totals",
            field=models.JSONField(
                default=dict,
                help_text="By currency: charged, and invoiced with tax, in the minor unit.",
            ),
        ),
    ]
