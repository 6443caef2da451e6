app_name = "numbers"
urlpatterns = []
