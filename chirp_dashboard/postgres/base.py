from functools import cache

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base, client

from .server import Server, ServerError


@cache
def embedded_server():
    """The server of this process; tests have one of their own, which never waits for the disk."""
    name = "postgres-test" if settings.TESTING else "postgres"
    return Server(settings.DATA_DIR / name, durable=not settings.TESTING)


class DatabaseClient(client.DatabaseClient):
    def runshell(self, parameters):
        self.connection.start_server()
        super().runshell(parameters)

    @classmethod
    def settings_to_cmd_args_env(cls, settings_dict, parameters):
        args, env = super().settings_to_cmd_args_env(settings_dict, parameters)
        return [str(embedded_server().bin_dir / "psql"), *args[1:]], env


class DatabaseWrapper(base.DatabaseWrapper):
    client_class = DatabaseClient

    def get_connection_params(self):
        self.start_server()
        return super().get_connection_params()

    def start_server(self):
        """Start the server and make the database, unless both are there; point the settings at them."""
        server = embedded_server()
        try:
            server.ensure(database=self.settings_dict["NAME"])
        except ServerError as error:
            raise psycopg.OperationalError(str(error)) from None
        self.settings_dict.update(HOST=str(server.socket_dir), USER="postgres")
