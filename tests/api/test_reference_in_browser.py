"""The reference at /v1/docs in a browser: drawn without a complaint, from this server alone."""

WIDTH = 360


def test_reference_is_drawn_whole_and_from_here_alone(visit):
    page, asked = visit(width=WIDTH), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/v1/docs")
    operations = page.locator(".opblock")
    operations.first.wait_for()
    document = page.request.get("/v1/openapi.json").json()
    assert operations.count() == sum(map(len, document["paths"].values()))
    page.locator("[id$='-summary'] .opblock-summary-control").click()
    page.get_by_text("a charge for a number that several apps shared").wait_for()
    page.get_by_text('"total_cost"').first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {
        visit.address.split("/")[2]
    }
