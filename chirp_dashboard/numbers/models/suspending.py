"""What an organization's numbers and applications do when its rent is unpaid, and when it is paid.

Billing says so (Standing.suspended_at, the last rung of a dunning); the sweep acts on it, in batches of
which each looks again under the lock. Interrupted, it goes on where it stopped; paid meanwhile, it turns
back. Test numbers cost nothing and are left alone.
"""

from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import Q

from chirp_dashboard.billing.models import Dunning, Standing
from chirp_dashboard.billing.models.rungs import LAST
from chirp_dashboard.numbers.carriers import carrier_named
from chirp_dashboard.numbers.notifying import notify
from chirp_dashboard.organizations.models import (
    Activity,
    Actor,
    Application,
    Organization,
    WebhookEvent,
)
from chirp_dashboard.sweeps import for_each

BATCH = 5_000
SYSTEM = Actor.system("unpaid rent")
BEGINNING = ("", 0)
TOLD = {"suspended": WebhookEvent.SUSPENDED, "restored": WebhookEvent.RESTORED}

NAMES = """
    CASE WHEN number LIKE '+1%%' AND length(number) = 12
         THEN format('(%%s) %%s-%%s', substr(number, 3, 3), substr(number, 6, 3), substr(number, 9))
         ELSE number END
"""
# Rows are locked in the order of their ids, as by everybody else who locks several.
LOCKED = """
    WITH locked AS (
        SELECT id, state AS state_before, suspended_on AS suspended_before
        FROM numbers_phonenumber
        WHERE id = ANY(%(numbers)s::bigint[]) AND state = %(state_from)s::text
        ORDER BY id FOR NO KEY UPDATE
    )
"""
CHANGE = f"""
    {LOCKED},
    changed AS (
        UPDATE numbers_phonenumber number
        SET state = %(state_to)s::text, suspended_on = %(suspended_on)s::date
        FROM locked WHERE locked.id = number.id
        RETURNING number.id, public_id, number, suspended_before
    ),
    noted AS (
        INSERT INTO organizations_activity
            (organization_id, at, verb, subject, subject_name, actor_kind, actor_name, before, after)
        SELECT %(organization)s::bigint, %(at)s::timestamptz, %(verb)s::text, public_id, {NAMES},
               %(actor_kind)s::text, %(actor_name)s::text,
               jsonb_build_object('state', %(state_from)s::text, 'suspended_on', suspended_before),
               jsonb_build_object('state', %(state_to)s::text, 'suspended_on', %(suspended_on)s::date)
        FROM changed ORDER BY id
    )
    SELECT id FROM changed
"""  # noqa: S608 - the parts are our own
# As `_finish_release` does for one number: a period that has begun is owed, none that begins today or later
# will be charged by the run.
RELEASE = f"""
    WITH locked AS (
        SELECT number.*, least(coalesce(releases_on, %(today)s::date), %(today)s::date) AS ends_on
        FROM numbers_phonenumber number
        WHERE id = ANY(%(numbers)s::bigint[]) AND state <> 'released'
        ORDER BY id FOR NO KEY UPDATE
    ),
    ended AS (
        UPDATE numbers_assignment SET ended_at = %(at)s::timestamptz, ended_because = 'released'
        WHERE ended_at IS NULL AND phone_number_id IN (SELECT id FROM locked)
        RETURNING phone_number_id
    ),
    rental_ended AS (
        UPDATE billing_rental rental SET ends_on = locked.ends_on
        FROM locked
        WHERE rental.phone_number_id = locked.id
          AND (rental.ends_on IS NULL OR rental.ends_on > locked.ends_on)
    ),
    released AS (
        UPDATE numbers_phonenumber number
        SET state = 'released', releases_on = locked.ends_on, released_at = %(at)s::timestamptz,
            assignment_count = 0
        FROM locked WHERE locked.id = number.id
        RETURNING number.id
    ),
    totalled AS (
        UPDATE numbers_totals SET
            numbers = numbers - (SELECT count(*) FROM locked),
            monthly = monthly - (
                SELECT coalesce(sum(rental_amount) FILTER (WHERE interval_months = 1), 0) FROM locked
            )
        WHERE organization_id = %(organization)s::bigint
    ),
    noted AS (
        INSERT INTO organizations_activity
            (organization_id, at, verb, subject, subject_name, actor_kind, actor_name, before, after)
        SELECT %(organization)s::bigint, %(at)s::timestamptz, 'released', public_id, {NAMES},
               %(actor_kind)s::text, %(actor_name)s::text,
               jsonb_build_object(
                   'state', state, 'releases_on', releases_on, 'released_at', released_at,
                   'assignment_count', assignment_count
               ),
               jsonb_build_object(
                   'state', 'released', 'releases_on', ends_on, 'released_at', %(at)s::timestamptz,
                   'assignment_count', 0, 'assignments_ended', coalesce(ended_here.count, 0),
                   'because', 'unpaid'
               )
        FROM locked
        LEFT JOIN (SELECT phone_number_id, count(*) FROM ended GROUP BY 1) AS ended_here
               ON ended_here.phone_number_id = locked.id
        ORDER BY locked.id
    )
    SELECT id FROM released
"""  # noqa: S608 - the parts are our own


def execute(statement, organization, numbers, *, at, **values):
    """Run one of the statements above on the ids `numbers`; its rows."""
    values |= {
        "organization": organization.pk,
        "numbers": numbers,
        "at": at,
        "actor_kind": str(SYSTEM.kind),
        "actor_name": SYSTEM.name,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


class FollowsStanding(models.QuerySet):
    """What the numbers of many organizations do together; a part of PhoneNumberQuerySet."""

    def follow_standing(self, *, at):
        """Suspend, restore or release what billing asks for; returns how many numbers that changed.

        Repeated, it changes nothing. One organization's failure keeps no other waiting.
        """

        def follow(organization):
            return (
                self._restore(organization, at=at)
                + self._suspend(organization, at=at)
                + self._release_unpaid(organization, at=at)
            )

        return for_each(self._concerned(), follow, failure="could not follow their standing")

    @staticmethod
    def _concerned():
        """Organizations that are suspended, were when the sweep last came, or are to be released."""
        last = Dunning.objects.open().filter(rung=LAST).values("organization")
        return Organization.objects.filter(
            Q(standing__suspended_at__isnull=False)
            | Q(totals__suspended_at__isnull=False)
            | Q(pk__in=last)
        ).order_by("pk")

    # Suspend

    def _suspend(self, organization, *, at):
        """Suspend its active numbers and its live applications, those that came later too."""
        done, after = 0, BEGINNING
        while after is not None:
            with transaction.atomic():
                standing = Standing.lock(organization)
                if standing.suspended_at is None:
                    break  # paid meanwhile; what was suspended is restored by the next sweep
                totals = self._totals_of(organization, standing.suspended_at)
                if totals.suspended_at != standing.suspended_at:
                    break  # what an earlier suspension left is restored first
                self._pause_applications(organization, at=at)
                numbers, after = self._next_batch(self._active(organization, totals), after)
                done += self._change(
                    organization, numbers, "suspended", state_from="active", state_to="suspended",
                    suspended_on=organization.local_date(standing.suspended_at), at=at,
                )  # fmt: skip
                if after is None and totals.is_suspending:
                    totals.is_suspending = False
                    totals.save(update_fields=["is_suspending"])
        return done

    @staticmethod
    def _totals_of(organization, suspended_at):
        """The organization's totals, marked as following the suspension of `suspended_at`."""
        totals = apps.get_model("numbers", "Totals").objects
        row, _ = totals.get_or_create(organization=organization)
        if row.suspended_at is None:
            row.suspended_at, row.is_suspending = suspended_at, True
            row.save(update_fields=["suspended_at", "is_suspending"])
        return row

    def _active(self, organization, totals):
        """What is to be suspended; once all was, only what an order delivered since can be left."""
        active = self.filter(organization=organization, state="active", is_test=False)
        if totals.is_suspending:
            return active
        return active.filter(purchased_at__gte=totals.suspended_at)

    @staticmethod
    def _next_batch(numbers, after):
        """Ids of the next numbers in order of number after `after`, and where to go on; None at the end."""
        number, pk = after
        rows = numbers.filter(number__gte=number).exclude(Q(number=number) & Q(pk__lte=pk))
        found = list(rows.order_by("number", "pk").values_list("number", "pk")[:BATCH])
        return [pk for _, pk in found], found[-1] if len(found) == BATCH else None

    @staticmethod
    def _change(organization, numbers, verb, *, at, **states):
        if not numbers:
            return 0
        changed = execute(CHANGE, organization, numbers, verb=verb, at=at, **states)
        notify(TOLD[verb], [pk for (pk,) in changed], at=at)
        return len(changed)

    @staticmethod
    def _pause_applications(organization, *, at):
        paused = Application.objects.filter(
            organization=organization, kind=Application.Kind.LIVE,
            archived_at=None, billing_paused_at=None,
        )  # fmt: skip
        _set_paused(organization, paused, "paused", to=at, at=at)

    # Restore

    def _restore(self, organization, *, at):
        """Restore what the suspension that ended suspended: its numbers and all applications."""
        done, after = 0, BEGINNING
        while after is not None:
            with transaction.atomic():
                standing = Standing.lock(organization)
                totals = (
                    apps.get_model("numbers", "Totals").objects.filter(pk=organization.pk).first()
                )
                if totals is None or totals.suspended_at in {None, standing.suspended_at}:
                    break
                day = organization.local_date(totals.suspended_at)
                suspended = self.filter(
                    organization=organization, state="suspended", suspended_on=day
                )
                numbers, after = self._next_batch(suspended, after)
                if after is None:
                    self._resume_applications(organization, at=at)
                done += self._change(
                    organization, numbers, "restored", state_from="suspended", state_to="active",
                    suspended_on=None, at=at,
                )  # fmt: skip
                if after is None:
                    totals.suspended_at, totals.is_suspending = None, False
                    totals.save(update_fields=["suspended_at", "is_suspending"])
        return done

    @staticmethod
    def _resume_applications(organization, *, at):
        paused = Application.objects.filter(organization=organization)
        paused = paused.exclude(billing_paused_at=None)
        _set_paused(organization, paused, "resumed", to=None, at=at)

    # Release

    def _release_unpaid(self, organization, *, at):
        """Give back every number, locked ones too, once every period that began has been charged."""
        done, after = 0, BEGINNING
        while after is not None:
            with transaction.atomic():
                standing = Standing.lock(organization)
                if not is_to_release(standing, at=at):
                    break
                live = self.live().filter(organization=organization, is_test=False)
                numbers, after = self._next_batch(live, after)
                done += self._release_batch(organization, numbers, at=at)
        return done

    def _release_batch(self, organization, numbers, *, at):
        if not numbers:
            return 0
        today = organization.local_date(at)
        leased = self.filter(pk__in=numbers, interval_months__gt=1)
        for number in leased.select_related("organization"):
            number.open_rental().charge_periods_begun(today, at=at)
        released = [pk for (pk,) in execute(RELEASE, organization, numbers, today=today, at=at)]
        notify(WebhookEvent.RELEASED, released, at=at, ended_at=at)
        given_back = self.filter(pk__in=released)
        for name in set(given_back.order_by().values_list("carrier", flat=True)):
            carrier_named(name).release_all(given_back.filter(carrier=name), at=at)
        return len(released)


def is_to_release(standing, *, at):
    """Is the last rung taken, nothing paid or held since, and everything charged that is owed?"""
    dunning = Dunning.objects.of(standing.organization)
    today = standing.organization.local_date(at)
    return bool(dunning) and dunning.may_release(standing, on=today) and is_billed(standing, at=at)


def is_billed(standing, *, at):
    """Has the run closed every billing date that `at` has reached? Until then a period may be owed."""
    closed = standing.closed_through
    if closed is None:
        return False
    return standing.next_billing_date(after=closed) > standing.organization.local_date(at)


def _set_paused(organization, applications, verb, *, to, at):
    """Pause or resume `applications` with a row of activity each; they are few."""
    changed = list(applications.select_for_update(no_key=True).order_by("pk"))
    applications.filter(pk__in=[each.pk for each in changed]).update(billing_paused_at=to)
    changes = [(each, None, None) for each in changed]
    Activity.objects.bulk_record(organization, verb, changes, by=SYSTEM, at=at)
