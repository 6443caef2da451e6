import smtplib
import threading
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, message_from_string
from email.policy import default

import pytest
from django.conf import settings as django_settings
from django.core import mail as outbox
from django.db import connection, transaction
from django.db.utils import InternalError, ProgrammingError
from django.template.loader import get_template
from procrastinate.contrib.django import app

from chirp_dashboard.organizations import tasks
from chirp_dashboard.organizations.models import Activity, Mail, Organization
from chirp_dashboard.organizations.models import mail as mail_module
from chirp_dashboard.organizations.models.mail import BATCH, LEASE, NOBODY, WAITS

from .mail_server import mail_server

NOON = datetime(2026, 11, 23, 17, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def templates(tmp_path, settings):
    """Two mails of ours to send, beside the real ones."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "note.txt").write_text("Hello {{ organization.name }}\n{{ words }}\n")
    (tmp_path / "mail" / "siren.txt").write_text("Something burns\nLook at once.\n")
    engines = [settings.TEMPLATES[0] | {"DIRS": [*settings.TEMPLATES[0]["DIRS"], tmp_path]}]
    settings.TEMPLATES = engines
    settings.OPERATOR_EMAILS = ["operator@chirp.example"]
    settings.SELLER_NAME = "Chirp Ltd"


@pytest.fixture
def note(organization, billing_person):
    return Mail.objects.write(organization, "note", key="note", at=NOON, words="One & all")


def send(at=NOON):
    Mail.objects.send_due(at=at)


def state(mail):
    mail.refresh_from_db()
    return mail.state


# Writing --------------------------------------------------------------------------------------


def test_mail_goes_to_owners_and_people_of_billing(organization, owner, billing_person, developer):
    note = Mail.objects.write(organization, "note", key="note", at=NOON)
    assert note.to == ["billing@northwind.example", "owner@northwind.example"]


def test_mail_goes_to_the_billing_address_when_there_is_one(organization, owner):
    organization.billing_email = "ap@northwind.example"
    mail = Mail.objects.write(organization, "note", key="note", at=NOON)
    assert mail.to == ["ap@northwind.example"]


def test_the_same_thing_is_told_once(organization, note):
    assert Mail.objects.write(organization, "note", key="note", at=NOON) is None
    assert Mail.objects.write(organization, "note", key="note", at=NOON + MINUTE) is None
    assert Mail.objects.count() == 1


def test_mail_is_undone_with_what_it_tells_about(organization, owner):
    with transaction.atomic():
        Mail.objects.write(organization, "note", key="note", at=NOON)
        transaction.set_rollback(True)
    assert not Mail.objects.exists()


def test_text_is_plain_and_signed(note):
    assert note.subject == "Hello Northwind"
    assert note.text == (
        "One & all\n\n-- \nChirp Ltd\n"
        "Sent to those who hear of the invoices of Northwind. To change who that is:\n"
        "http://127.0.0.1:8000/o/northwind/billing/details/\n"
    )


@pytest.mark.parametrize(
    "name",
    ["Evil\r\nBcc: x@y.example", "Evil\nBcc: x@y.example", "Evil\u2028Bcc: x", "W" * 120 * 3],
)
def test_a_name_cannot_write_a_head_of_its_own(organization, owner, name):
    organization.name = name
    mail = Mail.objects.write(organization, "note", key="note", at=NOON)
    assert mail.subject.startswith("Hello ")
    assert len(mail.subject) <= 200
    assert len(mail.subject.splitlines()) == 1
    send()
    head = message_from_string(outbox.outbox[0].message().as_string(), policy=default)
    assert head["Bcc"] is None
    assert head["Subject"] == mail.subject


def test_names_in_any_script_arrive_as_they_are(organization, owner):
    organization.name = "Żółć Ελλάδα 東京 🐦"
    mail = Mail.objects.write(organization, "note", key="note", at=NOON, words="Кирилл")
    send()
    sent = message_from_bytes(outbox.outbox[0].message().as_bytes(), policy=default)
    assert sent["Subject"] == mail.subject == "Hello Żółć Ελλάδα 東京 🐦"
    assert "Кирилл" in sent.get_content()


def test_nobody_to_write_to_is_an_error_that_operators_hear_of(organization):
    mail = Mail.objects.write(organization, "note", key="note", at=NOON)
    assert (mail.state, mail.error) == ("failed", NOBODY)
    alarm = Mail.objects.get(organization=None)
    assert alarm.to == ["operator@chirp.example"]
    assert 'The mail "Hello Northwind" of 23 Nov 2026 was not sent.' in alarm.text
    assert "For:     nobody" in alarm.text
    Mail.objects.write(organization, "note", key="another", at=NOON)
    assert Mail.objects.filter(organization=None).count() == 1


def test_alarm_without_operators_stands_in_the_log(db, settings, caplog):
    settings.OPERATOR_EMAILS = []
    alarm = Mail.objects.alarm("siren", key="fire", at=NOON)
    assert alarm.state == "failed"
    assert "Alarm: Something burns" in caplog.text
    assert Mail.objects.count() == 1


def test_what_was_written_is_kept(note):
    with pytest.raises((InternalError, ProgrammingError)), transaction.atomic():
        Mail.objects.update(text="Something else")
    with pytest.raises((InternalError, ProgrammingError)), transaction.atomic():
        note.delete()


# Sending --------------------------------------------------------------------------------------


def test_mail_is_sent_once(note):
    send()
    send(NOON + 2 * LEASE)
    assert [sent.to for sent in outbox.outbox] == [["billing@northwind.example"]]
    assert (state(note), note.sent_at, note.tries) == ("sent", NOON, 1)


def test_the_worker_sends_everything_that_is_due(organization, owner):
    for number in range(2 * BATCH + 1):
        Mail.objects.write(organization, "note", key=f"note-{number}", at=NOON)
    tasks.send_mail(timestamp=0)
    assert len(outbox.outbox) == 2 * BATCH + 1


def test_the_worker_knows_the_task():
    app.perform_import_paths()
    assert "chirp_dashboard.organizations.tasks.send_mail" in app.tasks


def test_head_is_the_same_at_every_attempt(note, organization):
    with transaction.atomic():
        first = note.message(None).message()
    second = note.message(None).message()
    other = Mail.objects.write(organization, "note", key="other", at=NOON).message(None).message()
    assert first["Message-ID"] == second["Message-ID"] != other["Message-ID"]
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["To"] == "billing@northwind.example"


def test_server_takes_the_mail(note, settings):
    with mail_server(settings) as server:
        send()
    [(recipients, text)] = server.taken
    assert recipients == ["billing@northwind.example"]
    sent = message_from_string(text, policy=default)
    assert sent["Subject"] == "Hello Northwind"
    assert sent.get_content().startswith("One & all")
    assert state(note) == "sent"


def test_many_mails_take_one_connection(note, organization, settings):
    Mail.objects.write(organization, "note", key="other", at=NOON)
    with mail_server(settings) as server:
        send()
    assert (server.connections, len(server.taken)) == (1, 2)


FAILURES = {
    "closed at once": {"CONNECT": "drop"},
    "hangs": {"CONNECT": "hang"},
    "busy": {"CONNECT": "421 too busy"},
    "hangs after the sender": {"MAIL": "hang"},
    "refuses the sender": {"MAIL": "550 who are you"},
    "drops at the recipient": {"RCPT": "drop"},
    "grey list": {"RCPT": "451 come back later"},
    "refuses the text": {"DATA": "554 looks like spam"},
    "garbage": {"EHLO": "banana", "HELO": "banana"},
}


@pytest.mark.parametrize("answers", FAILURES.values(), ids=FAILURES.keys())
def test_failure_is_kept_and_tried_again(note, settings, answers):
    with mail_server(settings, **answers) as server:
        send()
    assert server.taken == []
    assert state(note) == "due"
    assert note.error
    assert (note.tries, note.next_try_at) == (1, NOON + MINUTE)
    with mail_server(settings) as server:
        send(NOON + MINUTE - timedelta(seconds=1))
        assert server.taken == []
        send(NOON + MINUTE)
    assert len(server.taken) == 1
    assert (state(note), note.error) == ("sent", "")


def test_server_that_is_gone_costs_one_mail_one_attempt(note, organization, settings):
    other = Mail.objects.write(organization, "note", key="other", at=NOON)
    with mail_server(settings):
        pass  # its port is closed now
    send()
    assert (state(note), note.tries) == ("due", 1)
    assert "ConnectionRefusedError" in note.error
    assert (state(other), other.tries, other.next_try_at) == ("due", 0, NOON)


def test_mail_the_server_dislikes_does_not_hold_up_the_others(note, organization, settings):
    organization.billing_email = "known@northwind.example"
    other = Mail.objects.write(organization, "note", key="other", at=NOON)
    with mail_server(settings, **{"RCPT_billing@northwind.example": "550 no such user"}) as server:
        send()
    assert [state(note), state(other)] == ["failed", "sent"]
    taken = [recipients for recipients, _ in server.taken]
    assert taken == [["known@northwind.example"], ["operator@chirp.example"]]


def test_lost_answer_sends_the_same_mail_again(note, settings):
    with mail_server(settings, DATA="drop") as server:
        send()
    assert state(note) == "due"
    with mail_server(settings) as second:
        send(NOON + MINUTE)
    assert state(note) == "sent"
    sent = [message_from_string(text, policy=default) for _, text in server.taken + second.taken]
    assert len(sent) == 2
    assert sent[0]["Message-ID"] == sent[1]["Message-ID"]


def test_refused_recipient_is_recorded_and_not_tried_again(note, settings):
    with mail_server(settings, RCPT="550 no such user") as server:
        send()
        send(NOON + timedelta(days=2))
    assert (state(note), note.error) == (
        "failed",
        "billing@northwind.example: 550 no such user",
    )
    assert note.tries == 1
    assert server.taken == []
    assert Mail.objects.filter(kind="mail_failed", organization=None).count() == 1


def test_recipients_that_are_fine_get_it_once(organization, owner, billing_person, settings):
    note = Mail.objects.write(organization, "note", key="note", at=NOON)
    first = {"RCPT_billing@northwind.example": "451 grey list"}
    with mail_server(settings, **first) as server:
        send()
    assert (state(note), note.told) == ("due", ["owner@northwind.example"])
    with mail_server(settings) as second:
        send(NOON + MINUTE)
    taken = [recipients for recipients, _ in server.taken + second.taken]
    assert taken == [["owner@northwind.example"], ["billing@northwind.example"]]
    assert "To: billing@northwind.example, owner@northwind.example" in second.taken[0][1]
    assert state(note) == "sent"


def test_mail_that_some_never_get_is_sent_and_says_so(
    organization, owner, billing_person, settings
):
    note = Mail.objects.write(organization, "note", key="note", at=NOON)
    with mail_server(settings, **{"RCPT_owner@northwind.example": "550 left"}):
        send()
    assert (state(note), note.told) == ("sent", ["billing@northwind.example"])
    assert note.error == "owner@northwind.example: 550 left"


def test_after_three_days_an_operator_is_told(note, settings, monkeypatch):
    def refuse(*arguments, **options):
        raise smtplib.SMTPServerDisconnected("gone")

    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", refuse)
    at, waited = NOON, []
    while state(note) == "due":
        send(at)
        note.refresh_from_db()
        if note.next_try_at:
            waited.append(note.next_try_at - at)
            at = note.next_try_at
    assert waited == WAITS
    assert (waited[0], waited[-1]) == (MINUTE, timedelta(days=1))
    assert timedelta(days=2, hours=20) < at - NOON <= timedelta(days=3)
    assert note.error == "SMTPServerDisconnected: gone"
    assert Mail.objects.filter(kind="mail_failed").count() == 1
    assert list(Mail.objects.waiting()) == [note]


def test_alarm_that_cannot_be_sent_alarms_nobody(settings, db):
    alarm = Mail.objects.alarm("siren", key="fire", at=NOON)
    with mail_server(settings, RCPT="550 no such user"):
        send()
    assert state(alarm) == "failed"
    assert Mail.objects.count() == 1


def test_mail_that_cannot_be_written_out_waits_like_any_other(note, organization, monkeypatch):
    other = Mail.objects.write(organization, "note", key="other", at=NOON)
    message = Mail.message

    def broken(mail, connection):
        written = message(mail, connection)
        if mail.pk == note.pk:
            written.subject = "two\nlines"
        return written

    monkeypatch.setattr(Mail, "message", broken)
    send()
    assert (state(note), state(other)) == ("due", "sent")
    assert "BadHeaderError" in note.error


# Two workers ----------------------------------------------------------------------------------


def send_twice_at_once(settings, *, at=NOON):
    """Two workers send what is due at the same moment, each mail taking a while; how often each was sent."""
    server_is_slow = threading.Barrier(2, timeout=10)

    def worker():
        try:
            server_is_slow.wait()
            Mail.objects.send_due(at=at)
        finally:
            connection.close()

    with mail_server(settings) as server:
        threads = [threading.Thread(target=worker) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(
        message_from_string(text, policy=default)["Message-ID"] for _, text in server.taken
    )


@pytest.fixture
def ten_mails(transactional_db):
    organization = Organization.objects.create(
        name="Northwind", slug="northwind", billing_email="ap@northwind.example"
    )
    return [
        Mail.objects.write(organization, "note", key=f"note-{number}", at=NOON)
        for number in range(10)
    ]


@pytest.mark.parametrize("round", range(3))
def test_two_workers_send_each_mail_once(ten_mails, settings, round):
    sent = send_twice_at_once(settings)
    assert len(sent) == len(set(sent)) == 10


def test_without_the_claim_two_workers_would_send_it_twice(ten_mails, settings, monkeypatch):
    both_have_read, seen = threading.Barrier(2, timeout=10), threading.local()

    def unguarded(self, *, at):
        mail = self.due(at=at).first()
        if not getattr(seen, "mail", None):
            seen.mail = mail
            both_have_read.wait()
        return mail

    monkeypatch.setattr(mail_module.MailQuerySet, "_claim", unguarded)
    sent = send_twice_at_once(settings)
    assert len(sent) > len(set(sent))


def test_killed_workers_mail_is_sent_after_its_lease(note):
    assert Mail.objects.all()._claim(at=NOON) == note
    send(NOON + LEASE - MINUTE)
    assert outbox.outbox == []
    send(NOON + LEASE)
    assert len(outbox.outbox) == 1


def test_a_late_failure_does_not_undo_what_another_worker_sent(note):
    late = Mail.objects.all()._claim(at=NOON)
    send(NOON + LEASE)
    late._failed("too slow", at=NOON + LEASE)
    assert (state(note), note.error) == ("sent", "")


# Again ----------------------------------------------------------------------------------------


def test_operator_sends_a_mail_again(note, settings, operator):
    with mail_server(settings, RCPT="550 no such user"):
        send()
    note.refresh_from_db()
    note.resend(by=operator, at=NOON + MINUTE)
    assert (note.state, note.tries, note.error) == ("due", 0, "")
    with mail_server(settings) as server:
        send(NOON + MINUTE)
    assert len(server.taken) == 1
    assert state(note) == "sent"
    row = Activity.objects.get(verb="mail_resent")
    assert (row.subject, row.actor) == ("note", operator)
    assert row.before == {
        "state": "failed",
        "to": ["billing@northwind.example"],
        "error": "billing@northwind.example: 550 no such user",
    }


def test_mail_sent_again_goes_to_the_address_that_was_corrected(organization, operator):
    for address in ("wrnog@northwind.example", "right@northwind.example"):
        organization.change_settings({"billing_email": address}, by=operator, at=NOON)
        Mail.objects.write(organization, "note", key="note", at=NOON)
    Mail.objects.get().resend(by=operator, at=NOON)
    send()
    assert [sent.to for sent in outbox.outbox] == [["right@northwind.example"]]


def test_mail_to_one_member_is_sent_again_to_that_one(organization, owner, developer, operator):
    to = [developer.email]
    mail = Mail.objects.write(organization, "note", key="note", at=NOON, to=to)
    mail.resend(by=operator, at=NOON)
    assert mail.to == to


def test_mail_to_nobody_is_not_sent_again_to_nobody(organization, operator):
    mail = Mail.objects.write(organization, "note", key="note", at=NOON)
    mail.resend(by=operator, at=NOON)
    assert (state(mail), mail.error) == ("failed", NOBODY)


def test_alarm_sent_again_goes_to_the_operators_of_today(db, settings, operator):
    alarm = Mail.objects.alarm("siren", key="fire", at=NOON)
    settings.OPERATOR_EMAILS = ["night@chirp.example"]
    alarm.resend(by=operator, at=NOON)
    send()
    assert [sent.to for sent in outbox.outbox] == [["night@chirp.example"]]


# Every template -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    sorted((django_settings.BASE_DIR / "templates/mail").glob("*.txt")),
    ids=lambda p: p.stem,
)
def test_template_is_known_and_calm(path):
    get_template(f"mail/{path.name}")
    text = path.read_text().lower()
    for word in ("successfully", "please", "dear ", "!\n", "! "):
        assert word not in text
