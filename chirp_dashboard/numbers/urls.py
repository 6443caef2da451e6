from django.urls import path

from .views import (
    archive,
    assignments,
    holds,
    numbers,
    orders,
    overview,
    purchase,
    releases,
    search,
    spending,
)

app_name = "numbers"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("billing/applications/", spending.spending, name="spending"),
    path("billing/applications/csv/", spending.spending_csv, name="spending_csv"),
    path("numbers/purchase/", purchase.kinds, name="purchase"),
    path("numbers/purchase/basket/", holds.basket, name="basket"),
    path("numbers/purchase/hold/", holds.hold, name="hold"),
    path("numbers/purchase/unhold/", holds.unhold, name="unhold"),
    path("numbers/purchase/extend/", holds.extend, name="extend"),
    path("numbers/purchase/quote/", purchase.quote, name="quote"),
    path("numbers/purchase/<slug:number_type>/", search.search, name="search"),
    path("numbers/", numbers.number_list, name="list"),
    path("numbers/<slug:number>/", numbers.detail, name="detail"),
    path("numbers/<slug:number>/label/", numbers.label, name="label"),
    path("numbers/<slug:number>/lock/", numbers.lock, name="lock"),
    path("numbers/<slug:number>/assign/", assignments.assign_number, name="assign_number"),
    path("numbers/<slug:number>/remove/", assignments.remove, name="remove"),
    path("numbers/<slug:number>/move/", assignments.move, name="move"),
    path("numbers/<slug:number>/release/", releases.release, name="release"),
    path("numbers/<slug:number>/cancel-release/", releases.cancel_release, name="cancel_release"),
    path("numbers/<slug:number>/undo-release/", releases.undo_release, name="undo_release"),
    path("apps/<slug:slug>/numbers/", assignments.application_numbers, name="application_numbers"),
    path("apps/<slug:slug>/numbers/assign/", assignments.assign, name="assign"),
    path("orders/", orders.order_list, name="order_list"),
    path("orders/<slug:order>/", orders.order, name="order"),
    path("apps/<slug:slug>/archive/", archive.archive_application, name="archive_application"),
]
