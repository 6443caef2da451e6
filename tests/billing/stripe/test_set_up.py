"""What a deployment has to say about Stripe, and what the suite needs of the machine it runs on."""

import sys

import pytest

from ...test_settings import PRODUCTION, manage, read
from . import world

KEY, SECRET = {"STRIPE_SECRET_KEY": "sk_test_1"}, {"STRIPE_WEBHOOK_SECRETS": "whsec_1, whsec_2"}


def test_without_a_key_nothing_is_asked_for():
    assert read("STRIPE_SECRET_KEY", **PRODUCTION) == "''"


def test_several_webhook_secrets_are_good_at_once():
    assert read("STRIPE_WEBHOOK_SECRETS", **PRODUCTION, **KEY, **SECRET) == "['whsec_1', 'whsec_2']"


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"STRIPE_SECRET_KEY": "pk_live_1"}, "STRIPE_SECRET_KEY is not a secret key"),
        (KEY, "STRIPE_WEBHOOK_SECRETS is not set"),
        (KEY | SECRET | {"STRIPE_API_BASE": "http://127.0.0.1:1"}, "it is refused in production"),
    ],
)
def test_production_refuses_half_of_it(environment, complaint):
    assert complaint in read("DEBUG", **PRODUCTION, **environment)


def test_a_wrong_key_is_not_repeated_in_the_complaint():
    assert "hunter2" not in read("DEBUG", **PRODUCTION, STRIPE_SECRET_KEY="hunter2")


def test_with_a_key_it_is_registered_and_the_sdk_is_not_imported_before_it_is_needed(tmp_path):
    script = (
        "import sys; from chirp_dashboard.billing.gateways import GATEWAYS; "
        "print(sorted(GATEWAYS), 'stripe' in sys.modules)"
    )
    said = manage("shell", "-v", "0", "-c", script, DATA_DIR=str(tmp_path), **KEY)
    assert said.stdout.strip() == "['account', 'stripe', 'test'] False", said.stderr


@pytest.mark.parametrize(("oldest", "found"), [((3, 0), True), ((9, 9), False)])
def test_a_python_for_the_counterpart_is_looked_for(oldest, found, monkeypatch):
    monkeypatch.setenv("STRIPE_WORLD_PYTHON", sys.executable)
    monkeypatch.setattr(world, "OLDEST", oldest)
    assert world.find_python() == (sys.executable if found else None)


def test_a_named_python_that_does_not_run_is_none(monkeypatch):
    monkeypatch.setenv("STRIPE_WORLD_PYTHON", "/nowhere/python")
    assert world.find_python() is None


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    wrong = tmp_path / "requirements.txt"
    wrong.write_text("this is no requirement\n")
    monkeypatch.setattr(world, "REQUIREMENTS", wrong)
    monkeypatch.setattr(world, "KEPT_IN", tmp_path / "kept")
    with pytest.raises(world.Unavailable, match=r"\S"):
        world.environment(sys.executable)
    assert not (tmp_path / "kept" / "made-of").exists()
