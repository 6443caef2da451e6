"""A receiver of webhooks over TLS on loopback, as a customer would run one."""

import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ssrfguard import Policy
from ssrfguard.httpx import Client

from chirp_dashboard.organizations import sending


def certificate(folder):
    """A certificate for 127.0.0.1 and hooks.example that signs itself; its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("hooks.example")]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "hooks.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


class Receiver:
    """Answers POSTs with `answers` in turn, the last one again and again; keeps what came."""

    def __init__(self, folder):
        self.received, self.answers = [], [200]
        self.file = certificate(folder)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers), body.decode()))
                receiver.answer(self)

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server.server_address[1]

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}/hooks"

    def answer(self, handler):
        wanted = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if wanted == "hang":
            time.sleep(sending.SECONDS + 3)
        elif wanted == "drop":
            handler.connection.close()
        elif wanted == "redirect":
            handler.send_response(302)
            handler.send_header("Location", self.url + "/elsewhere")
            handler.end_headers()
        else:
            handler.send_response(wanted)
            handler.end_headers()
            handler.wfile.write(b"Thank you\x00")

    def client(self, **options):
        """As the product's client, but for this receiver's address, port and certificate."""
        context = ssl.create_default_context(cafile=str(self.file))
        policy = Policy(
            allowed_schemes=frozenset({"https"}),
            allowed_ports=frozenset({self.port}),
            allowed_networks=(ip_network("127.0.0.1/32"),),
        )
        return Client(
            policy=policy, timeout=sending.SECONDS, follow_redirects=False, trust_env=False,
            verify=context, **options,
        )  # fmt: skip

    def close(self):
        self.server.shutdown()
        self.server.server_close()
