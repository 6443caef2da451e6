import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("numbers", "0001_stock_orders_numbers"),
        ("organizations", "0001_people_organizations_applications"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="phonenumber",
            name="number_by_label",
        ),
        migrations.AddIndex(
            model_name="phonenumber",
            index=models.Index(
                models.F("organization"),
                models.ExpressionWrapper(
                    models.Q(("label", "")), output_field=models.BooleanField()
                ),
                django.db.models.functions.text.Lower("label"),
                models.F("id"),
                condition=models.Q(("state", "released"), _negated=True),
                name="number_by_label",
            ),
        ),
        migrations.AddIndex(
            model_name="phonenumber",
            index=models.Index(
                condition=models.Q(("state", "released"), _negated=True),
                fields=["organization", "region", "number", "id"],
                name="number_by_region",
            ),
        ),
        migrations.AddIndex(
            model_name="phonenumber",
            index=models.Index(
                condition=models.Q(
                    models.Q(("state", "released"), _negated=True), ("release_locked", True)
                ),
                fields=["organization", "number", "id"],
                name="number_locked",
            ),
        ),
        migrations.AddIndex(
            model_name="phonenumber",
            index=models.Index(
                condition=models.Q(
                    models.Q(("state", "released"), _negated=True), ("releases_on__isnull", False)
                ),
                fields=["organization", "number", "id"],
                name="number_being_released",
            ),
        ),
    ]
