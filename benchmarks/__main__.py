"""`make bench`, or `python -m benchmarks r1 r4`: measure, and print what RESULTS.md reports.

Works on a database server of its own in DATA_DIR (default `.data/bench`), with durable commits.
"""

import importlib
import os
import sys
from pathlib import Path

BENCHMARKS = {
    "r1": "benchmarks.r1_purchase_transaction",
    "r2": "benchmarks.r2_purchases_over_http",
    "r3": "benchmarks.r3_monthly_run",
    "r3-at-once": "benchmarks.r3_runs_at_once",
    "r4": "benchmarks.r4_list_page",
    "r10": "benchmarks.r10_csv",
    "api": "benchmarks.api_list",
}


def main(names):
    if unknown := [name for name in names if name not in BENCHMARKS]:
        sys.exit(f"No benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.")
    os.environ.setdefault("DATA_DIR", str(Path(".data/bench").resolve()))
    os.environ["DEBUG"] = "0"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chirp_dashboard.settings")
    import django

    django.setup()
    from django.core.management import call_command

    from benchmarks.measure import describe_machine

    call_command("migrate", verbosity=0)
    print(describe_machine(), flush=True)
    for name in names or BENCHMARKS:
        importlib.import_module(BENCHMARKS[name]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
