"""What surrounds every page of an organization: side bar, skip link, who you are."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import expect

from chirp_dashboard.organizations.models import Application, Membership


@pytest.fixture
def path(organization):
    return reverse("organizations:application_list", args=[organization.slug])


def side_bar(client, path):
    return re.search(
        r'<nav class="side-nav".*?</nav>', client.get(path).content.decode(), re.DOTALL
    )[0]


def test_billing_is_offered_to_those_who_may_see_it(
    viewer_client, billing_client, path, organization
):
    billing = reverse("billing:overview", args=[organization.slug])
    assert billing in side_bar(billing_client, path)
    assert billing not in side_bar(viewer_client, path)


def test_it_says_who_you_are_and_lets_you_leave(viewer_client, path):
    bar = side_bar(viewer_client, path)
    assert "viewer@northwind.example" in bar
    assert "Viewer" in bar
    assert f'<form method="post" action="{reverse("account_logout")}">' in bar


def test_the_current_page_is_marked(viewer_client, path):
    assert re.findall(r'href="([^"]+)" aria-current="page"', side_bar(viewer_client, path)) == [
        path
    ]


def test_many_applications_are_cut_short(viewer_client, path, organization):
    Application.objects.bulk_create(
        Application(organization=organization, name=f"App {number:02}", slug=f"app-{number:02}")
        for number in range(15)
    )
    bar = side_bar(viewer_client, path)
    assert len(re.findall(r"/apps/app-\d\d/numbers/", bar)) == 12
    assert ">All applications<" in bar


def test_one_organization_needs_no_switch(viewer_client, path):
    assert "switch organization" not in side_bar(viewer_client, path)


def test_several_organizations_are_one_click_apart(viewer, viewer_client, path, rival):
    Membership.objects.create(organization=rival, user=viewer)
    bar = side_bar(viewer_client, path)
    assert f'href="{reverse("numbers:overview", args=[rival.slug])}"' in bar


def test_the_first_tab_stop_skips_to_the_content(visit, viewer, path):
    page = visit(viewer, path=path)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("javascript", [True, False])
def test_narrow_window_opens_the_side_bar_from_a_button(visit, viewer, path, javascript):
    page = visit(viewer, path=path, width=360, javascript=javascript)
    overview = page.get_by_role("navigation", name="Main").get_by_role("link", name="Overview")
    expect(overview).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(overview).to_be_visible()
    page.keyboard.press("Escape")
    expect(overview).to_be_hidden()


@pytest.mark.parametrize("width", [360, 900, 2560])
def test_no_width_scrolls_sideways(visit, viewer, path, storefront, width):
    page = visit(viewer, path=path, width=width)
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(visit, viewer, path, storefront, scheme, width):
    page = visit(viewer, path=path, width=width, scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [violation["id"] for violation in found] == []


def test_cold_page_is_light(visit, viewer, path, storefront):
    asked = []
    page = visit(viewer)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path)
    page.wait_for_load_state("networkidle")
    assert len(asked) <= 6
