"""A mail server on this machine that answers as it is told: takes, refuses, hangs, drops."""

import socketserver
import threading
from contextlib import contextmanager


class Server(socketserver.ThreadingTCPServer):
    """`answers` maps a verb (or a verb and an address) to a reply, or to "hang" or "drop"."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, answers):
        self.answers = answers
        self.taken = []  # (recipients, text of the mail) of what was accepted
        self.connections = 0
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Conversation)


class Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.connections += 1
        self.recipients = []
        if not self.reply("CONNECT", "220 ready"):
            return
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            verb = verb.upper()
            if verb == "DATA":
                going_on = self.take_mail()
            elif verb == "RCPT":
                going_on = self.take_recipient(rest)
            else:
                going_on = self.reply(verb, "221 bye" if verb == "QUIT" else "250 fine")
            if not going_on or verb == "QUIT":
                return

    def take_recipient(self, rest):
        address = rest.partition("<")[2].partition(">")[0]
        answer = self.server.answers.get(
            f"RCPT {address}", self.server.answers.get("RCPT", "250 ok")
        )
        if answer.startswith("2"):
            self.recipients.append(address)
        return self.say(answer)

    def take_mail(self):
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line)
        answer = self.server.answers.get("DATA", "250 taken")
        if answer in {"250 taken", "drop"}:  # dropped after it was taken: the answer is lost
            self.server.taken.append((self.recipients, b"".join(lines).decode()))
        self.recipients = []
        return self.say(answer)

    def reply(self, verb, usual):
        return self.say(self.server.answers.get(verb, usual))

    def say(self, answer):
        """Send a reply; False when the conversation ends here."""
        if answer == "hang":
            self.server.over.wait(30)
        if answer in {"hang", "drop"}:
            return False
        self.wfile.write(f"{answer}\r\n".encode())
        return not answer.startswith("421")


@contextmanager
def mail_server(settings, **answers):
    """A running server that the product sends its mail to, as `Server`."""
    server = Server({verb.replace("_", " "): answer for verb, answer in answers.items()})
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    settings.EMAIL_BACKEND = "chirp_dashboard.organizations.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
    settings.EMAIL_USE_TLS = False
    settings.EMAIL_TIMEOUT = 1
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
