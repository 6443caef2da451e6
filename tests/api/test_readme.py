"""The examples of the README, run as they stand there."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone
from standardwebhooks import WebhookVerificationError

from chirp_dashboard.api.models import Answer
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, PhoneNumber
from chirp_dashboard.organizations.models import Application, Delivery, Organization, secret_of

from ..numbers.conftest import NOON, in_stock, prices
from .conftest import make_key

__all__ = ["prices"]

pytestmark = pytest.mark.django_db(transaction=True)
SEND_ONCE_MORE = "for pause in (1, 2, 4, 8, 16):"


def example(language, place=0):
    """One of the README's blocks about the API."""
    readme = (settings.BASE_DIR / "README.md").read_text()
    api = readme.partition("\n## The API\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", api, re.DOTALL | re.MULTILINE)[place]


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.fixture
def demo(prices, owner):
    """As much of the demo as the examples use."""
    demo = Organization.objects.create(name="Demo", slug="demo", time_zone="America/New_York")
    Application.objects.create(organization=demo, name="Storefront", slug="storefront")
    for line in range(150, 153):
        in_stock(f"+12125550{line}")
    return demo


def run(command, environment, **options):
    done = subprocess.run(
        command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True,
        timeout=120, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_searches_quotes_and_purchases(demo, live_server, process_environment, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    (tmp_path / ".curlrc").write_text('silent\nshow-error\nwrite-out = "\\n%{http_code}\\n"\n')
    script = example("sh").replace("http://127.0.0.1:8000", live_server.url)
    script = script.replace(".venv/bin/python", sys.executable)
    assert live_server.url in script
    assert sys.executable in script
    environment = process_environment | {"CURL_HOME": str(tmp_path)}
    printed = run(["sh", "-euc", script], environment).splitlines()
    (found, quote, order), statuses = map(json.loads, printed[::2]), printed[1::2]
    assert statuses == ["200", "200", "201"]
    assert len(found["phoneNumbers"]) == 3
    assert (quote["state"], order["state"]) == ("quoted", "completed")
    assert PhoneNumber.objects.get().number == "+12125550150"
    assert Answer.objects.get().idempotency_key == "van-7"
    assert check_books(at=timezone.now()) == []


def test_python_does_the_same(demo, owner, live_server, process_environment):
    environment = {
        "PATH": process_environment["PATH"],
        "URL": f"{live_server.url}/v1",
        "KEY": make_key(demo, owner).secret,
    }
    printed = run([sys.executable, "-c", example("python")], environment)
    number = PhoneNumber.objects.get()
    assert printed == f"{number.number} Storefront\n"
    assert check_books(at=timezone.now()) == []


def test_python_purchases_once_when_answers_are_lost(
    demo, owner, live_server, process_environment, monkeypatch
):
    """The first time the order is placed, and the answer is a failure."""
    advance, lost = Order.advance, []

    def fail_once(order, *, at):
        advance(order, at=at)
        if not lost:
            lost.append(order)
            raise RuntimeError("The process dies here.")

    monkeypatch.setattr(Order, "advance", fail_once)
    hasty = example("python").replace(SEND_ONCE_MORE, "for pause in (0, 0, 0):")
    assert SEND_ONCE_MORE not in hasty
    environment = {
        "PATH": process_environment["PATH"],
        "URL": f"{live_server.url}/v1",
        "KEY": make_key(demo, owner).secret,
    }
    printed = run([sys.executable, "-c", hasty], environment)
    assert len(lost) == Order.objects.count() == 1
    assert printed == f"{PhoneNumber.objects.get().number} Storefront\n"


def test_python_tells_what_we_sent_from_what_we_did_not(demo, owner, prices, tmp_path, monkeypatch):
    application = Application.objects.get()
    webhook = application.add_webhook(
        url="https://hooks.example/in", events=["phone_numbers.purchased"], headers={}, by=owner,
        at=NOON,
    )  # fmt: skip
    path = f"/organization/phone-numbers/{application.public_id}/purchase"
    body = {"phoneNumber": "+12125550150", "numberType": "local"}
    assert make_key(demo, owner)("POST", path, body).status_code == 201
    sent = Delivery.objects.get()
    monkeypatch.setenv("WEBHOOK_SECRET", secret_of(webhook, webhook.secret_version))
    (tmp_path / "receiver.py").write_text(example("python", 1))
    received = runpy.run_path(str(tmp_path / "receiver.py"))["received"]
    headers = sent.headers(at=timezone.now())
    told = received(headers, sent.payload.encode())
    assert told == ("phone_numbers.purchased", "+12125550150", "Storefront")
    with pytest.raises(WebhookVerificationError):
        received(headers, sent.payload.replace("Storefront", "Elsewhere").encode())
