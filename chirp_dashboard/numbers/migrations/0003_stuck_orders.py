from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("numbers", "0002_list_indexes")]

    operations = [
        migrations.RemoveIndex(model_name="order", name="order_open"),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(
                fields=["next_look_at"],
                condition=models.Q(state__in=["placed", "authorised", "ordered", "stuck"]),
                name="order_not_settled",
            ),
        ),
    ]
