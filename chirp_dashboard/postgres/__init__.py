"""A database backend that brings its own PostgreSQL: development and tests need nothing installed.

`ENGINE = "chirp_dashboard.postgres"` is Django's PostgreSQL backend, with an embedded server started
on first use and stopped when its last user is gone.
"""
