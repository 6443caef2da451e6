"""The `curl` lines of "Managing Phone Numbers", by the real curl: only host, key and id are replaced."""

import json
import os
import shutil
import subprocess

import pytest

from ..numbers.conftest import number, prices, purchase, stock
from .conftest import make_key

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db(transaction=True)

HOST, KEY, ID = (
    "https://api.buildwithchirp.com", "YOUR_APP_KEY", "550e8400-e29b-41d4-a716-446655440000",
)  # fmt: skip
ASSIGN = """\
curl -X POST https://api.buildwithchirp.com/v1/phone-numbers \\
  -H "Authorization: Bearer YOUR_APP_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "phoneNumberId": "550e8400-e29b-41d4-a716-446655440000"
  }'
"""
REMOVE = """\
curl -X DELETE https://api.buildwithchirp.com/v1/phone-numbers/550e8400-e29b-41d4-a716-446655440000 \\
  -H "Authorization: Bearer YOUR_APP_KEY"
"""
"""The document names the endpoint and shows no line; this is the other one, written for it."""


@pytest.fixture
def shell(live_server):
    """`shell(lines, key=…, number_id=…)`: what the lines print, as a shell runs them."""
    if not shutil.which("curl"):
        # Slim images have none, so this stays a skip even where everything is required.
        pytest.skip("no curl: install it")

    def run(lines, *, key, number_id):
        for name, ours in ((HOST, live_server.url), (KEY, key), (ID, number_id)):
            assert name in lines
            lines = lines.replace(name, ours)
        done = subprocess.run(
            ["/bin/sh", "-c", lines],
            env={"PATH": os.environ["PATH"], "no_proxy": "*", "HOME": "/nonexistent"},
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    return run


def test_lines_of_the_document_assign_and_remove(shell, number, organization, owner, storefront):
    words = {"key": make_key(organization, owner, storefront).secret, "number_id": number.public_id}
    assigned = shell(ASSIGN, **words)
    assert set(assigned) == {"phoneNumberId", "appId", "number", "createdAt", "updatedAt"}
    assert assigned["phoneNumberId"] == number.public_id
    assert number.assignments.open().get().application == storefront
    assert shell(ASSIGN, **words)["error"]["code"] == "resource_already_exists"
    assert set(shell(REMOVE, **words)) == {"message"}
    assert not number.assignments.open().exists()
    number.refresh_from_db()
    assert number.state == "active"
    assert shell(REMOVE, **words)["error"]["code"] == "phone_number_not_assigned"


def test_lines_as_they_stand_are_refused_and_say_why(
    shell, number, organization, owner, storefront
):
    wrong_key = shell(ASSIGN, key=KEY, number_id=number.public_id)
    assert wrong_key["error"]["type"] == "authentication_error"
    key = make_key(organization, owner, storefront).secret
    wrong_id = shell(ASSIGN, key=key, number_id=ID)
    assert (wrong_id["error"]["code"], wrong_id["error"]["param"]) == ("not_found", "phoneNumberId")
    assert not number.assignments.exists()
