from django.db import migrations, models

from chirp_dashboard.organizations.public_ids import PublicIdField, public_id


def give_ids(apps, schema_editor):
    organizations = apps.get_model("organizations", "Organization").objects
    for organization in organizations.filter(public_id=None):
        organization.public_id = public_id("org")
        organization.save(update_fields=["public_id"])


class Migration(migrations.Migration):
    """What the API names an organization by; each one that is there gets an id of its own."""

    dependencies = [("organizations", "0006_api_keys_deliveries")]

    operations = [
        migrations.AddField(
            "organization", "public_id", models.CharField(max_length=64, null=True, editable=False)
        ),
        migrations.RunPython(give_ids, migrations.RunPython.noop),
        migrations.AlterField("organization", "public_id", PublicIdField("org")),
    ]
