import pytest
from django.template import engines

from chirp_dashboard.numbers import stencils

PLAIN = {
    "id": "ph_1", "href": "/o/northwind/numbers/ph_1/", "e164": "+12125550142",
    "text": "(212) 555-0142", "label": "Sales", "type": "Local", "capabilities": "SMS, Voice",
    "location": "New York, NY", "applications": [], "more": [], "locked": False,
    "rental": "$1.00", "term": "", "next_charge": "1 Dec", "released": False,
    "suspended": False, "releasing": False, "status": "active", "word": "Active", "exact": "",
}  # fmt: skip
STOREFRONT = {"name": "Storefront", "slug": "storefront", "href": "/o/northwind/apps/storefront/"}
ALERTS = {"name": "Alerts & alarms", "slug": "alerts", "href": "/o/northwind/apps/alerts/"}


@pytest.fixture(autouse=True)
def no_stencils(monkeypatch):
    monkeypatch.setattr(stencils, "_stencils", {})


def by_template(row, **given):
    """What the template draws by itself."""
    return engines["django"].engine.render_to_string(
        "numbers/_number_row.html", {"row": row, **given}
    )


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"label": "", "location": "", "next_charge": ""},
        {"label": '<b>"{row_id}" & {0} {{ x }} %s</b>'},
        {"applications": [STOREFRONT]},
        {"applications": [STOREFRONT, ALERTS], "more": [ALERTS, STOREFRONT]},
        {"locked": True, "term": "3 months"},
        {"released": True, "status": "released", "word": "Released 3 Nov", "exact": "3 Nov 2026"},
        {"releasing": True}, {"suspended": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize("here", [None, {"name": "<i>{here_slug}</i>", "slug": "storefront"}])
@pytest.mark.parametrize("role", [(True, True), (True, False), (False, False)])
def test_stencil_prints_what_the_template_draws(facts, here, role):
    given = {"here": here, "oob": False, "can_assign": role[0], "can_purchase": role[1]}
    row = PLAIN | facts
    expected = by_template(row, **given)
    for _ in range(2):
        assert stencils.print_rows("numbers/_number_row.html", [row], **given) == expected


def test_rows_of_one_shape_run_the_template_once(monkeypatch):
    drawn = []
    cut = stencils._cut
    monkeypatch.setattr(stencils, "_cut", lambda *given: drawn.append(1) or cut(*given))
    rows = [PLAIN | {"id": f"ph_{index}", "label": f"Label {index}"} for index in range(50)]
    printed = stencils.print_rows(
        "numbers/_number_row.html", rows, here=None, oob=False, can_assign=True, can_purchase=True
    )
    assert printed.count("<tr ") == 50
    assert "Label 49" in printed
    assert len(drawn) == 1


def test_stencils_that_are_kept_have_a_limit(monkeypatch):
    monkeypatch.setattr(stencils, "KEPT", 1)
    for label in ("", "Sales"):
        stencils.print_rows(
            "numbers/_number_row.html", [PLAIN | {"label": label}],
            here=None, oob=False, can_assign=True, can_purchase=True,
        )  # fmt: skip
    assert len(stencils._stencils) == 1
