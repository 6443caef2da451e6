import asyncio
import contextlib
import logging
import signal

import psycopg
from django.core.management.base import BaseCommand
from django.db import DatabaseError
from procrastinate.contrib.django import app
from procrastinate.exceptions import ProcrastinateException

from chirp_dashboard import jobs

logger = logging.getLogger(__name__)

CONCURRENCY = 4
PATIENCE = 20
"""Seconds that running jobs get to finish when the worker is asked to stop."""

RETURN_AFTER = 1
"""Seconds before a worker that lost the database tries again."""


class Command(BaseCommand):
    help = "Do background work until stopped. Any number of workers may run."

    def handle(self, **options):
        asyncio.run(self.work())

    async def work(self):
        """Work until a signal; when the database goes away, come back to it."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        while not stop.is_set():
            await self.work_until(stop)

    async def work_until(self, stop):
        worker = asyncio.create_task(self.run_worker())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([worker, stopping], return_when=asyncio.FIRST_COMPLETED)
        try:
            if stop.is_set():
                worker.cancel()
            await worker
        except asyncio.CancelledError:
            return
        except (DatabaseError, psycopg.Error, ProcrastinateException, OSError) as error:
            logger.warning("The worker lost the database: %s", error)
        finally:
            stopping.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETURN_AFTER)

    async def run_worker(self):
        connector = await asyncio.to_thread(app.connector.get_worker_connector)
        with app.replace_connector(connector) as worker_app:
            async with worker_app.open_async():
                await worker_app.run_worker_async(
                    concurrency=CONCURRENCY,
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=PATIENCE,
                    update_heartbeat_interval=jobs.HEARTBEAT,
                    stalled_worker_timeout=jobs.SILENCE,
                )
