"""How background work is kept going. What each app does in the background stands in its tasks.py.

Jobs only wake things up; our rows are the truth. Every periodic task is a sweep that does whatever is
due and not done, so a lost, late or doubled one changes nothing.
"""

from django.core.management import call_command
from procrastinate.contrib.django import app

HEARTBEAT = 5
"""Seconds between two signs of life of a worker."""

SILENCE = 20
"""Seconds without a sign of life after which a worker counts as dead."""

KEEP_FINISHED_HOURS = 72
KEEP_FAILED_HOURS = 24 * 90


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="rescue_jobs", pass_context=True)
async def rescue_jobs(context, timestamp):
    """Give the jobs that dead workers held to living ones."""
    jobs = context.app.job_manager
    for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=SILENCE):
        await jobs.retry_job(job)


@app.periodic(cron="23 * * * *")
@app.task(queueing_lock="forget_finished_jobs", pass_context=True)
async def forget_finished_jobs(context, timestamp):
    jobs = context.app.job_manager
    await jobs.delete_old_jobs(nb_hours=KEEP_FINISHED_HOURS)
    await jobs.delete_old_jobs(
        nb_hours=KEEP_FAILED_HOURS,
        include_failed=True,
        include_cancelled=True,
        include_aborted=True,
    )


@app.periodic(cron="37 * * * *")
@app.task(queueing_lock="forget_ended_sessions")
def forget_ended_sessions(timestamp):
    call_command("clearsessions")
