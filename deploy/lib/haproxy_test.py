"""haproxy.cfg in a running haproxy, in front of three small nodes that do as they are told. Loopback only."""

import base64
import hashlib
import http.client
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "haproxy.cfg"


class Node(ThreadingHTTPServer):
    """A node. It counts what arrives and answers with its name."""

    daemon_threads = True

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.ready, self.refuses, self.hangs_up = name, True, False, False
        self.seen = []
        # A health check that is cut off is no error.
        self.handle_error = lambda *_: None
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def log_message(self, *_):
        pass

    def do_GET(self):
        node = self.server
        if self.path == "/ready":
            return self.say(200 if node.ready else 503)
        if self.path == "/health":
            return self.say(200)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        node.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if node.hangs_up:
            self.close_connection = True
            return None
        if node.refuses:
            return self.say(503)
        if self.headers.get("Upgrade") == "websocket":
            return self.echo()
        return self.say(200)

    do_POST = do_GET

    def say(self, status):
        body = self.server.name.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        # haproxy checks it.
        digest = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.close_connection = True
        while chunk := self.connection.recv(100):
            self.connection.sendall(self.server.name.encode() + b":" + chunk)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it did not come about")
        time.sleep(0.05)


class Proxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nodes = [Node(f"ordercast-{n}") for n in (1, 2, 3)]
        cls.port, cls.figures_port = free_port(), free_port()
        text = CONFIG.read_text()
        for node in cls.nodes:
            text = text.replace(f" {node.name}:9001", f" 127.0.0.1:{node.server_address[1]}")
        text = text.replace("bind :8080", f"bind 127.0.0.1:{cls.port}")
        text = text.replace("bind :8405", f"bind 127.0.0.1:{cls.figures_port}")
        text = text.replace(" resolvers names init-addr last,libc,none", "").replace("maxconn 100000", "maxconn 200")
        text = re.sub(r"^resolvers .*?(?=^\S)", "", text, flags=re.MULTILINE | re.DOTALL)
        cls.folder = tempfile.TemporaryDirectory()
        config = Path(cls.folder.name) / "haproxy.cfg"
        config.write_text(text)
        cls.log = open(Path(cls.folder.name) / "log", "w+")
        cls.proxy = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=cls.log, stderr=subprocess.STDOUT)
        eventually(lambda: cls.ready_nodes() == 3)

    @classmethod
    def tearDownClass(cls):
        cls.proxy.terminate()
        cls.proxy.wait(10)
        for node in cls.nodes:
            node.shutdown()
            node.server_close()
        cls.log.close()
        cls.folder.cleanup()

    def setUp(self):
        for node in self.nodes:
            node.ready, node.refuses, node.hangs_up = True, False, False
        eventually(lambda: self.ready_nodes() == 3)
        for node in self.nodes:
            node.seen.clear()

    @classmethod
    def figures(cls):
        connection = http.client.HTTPConnection("127.0.0.1", cls.figures_port, timeout=2)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    @classmethod
    def ready_nodes(cls):
        try:
            text = cls.figures()
        except OSError:
            return 0
        return len(re.findall(r'^haproxy_server_status\{proxy="ordercast",server="[^"]*",state="UP"\} 1$', text, re.MULTILINE))

    def ask(self, method="GET", path="/orders", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    # What the nodes answer that are not told to fail.
    others = {(200, "ordercast-2"), (200, "ordercast-3")}

    def asked(self):
        return {node.name for node in self.nodes if node.seen}

    def seen(self):
        return [request for node in self.nodes for request in node.seen]

    def test_every_node_has_its_share(self):
        self.assertEqual({self.ask()[1] for _ in range(12)}, {"ordercast-1", "ordercast-2", "ordercast-3"})

    def test_the_address_of_the_client_is_the_one_it_connects_from(self):
        self.ask(headers={"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"})
        (_, _, headers), = self.seen()
        self.assertEqual(headers.get("x-forwarded-for"), "127.0.0.1")
        self.assertNotIn("forwarded", headers)

    def test_figures_stay_inside(self):
        for path in ("/metrics", "/Metrics", "/%6detrics", "/metrics/"):
            self.assertEqual(self.ask(path=path)[0], 404, path)
        self.assertEqual(self.seen(), [])

    def test_the_figures_that_alerts_and_dashboard_use_exist(self):
        deploy = CONFIG.parent
        text = (deploy / "prometheus/alerts.yml").read_text() + (deploy / "grafana/dashboards/ordercast.json").read_text()
        used = set(re.findall(r"\bhaproxy_\w+", text.replace('\\"', '"')))
        self.assertGreater(len(used), 0)
        for name in used:
            self.assertRegex(self.figures(), rf'(?m)^{name}\{{proxy="ordercast"')

    def test_a_refused_read_goes_to_another_node(self):
        # Only one of them: a retry avoids the node before it, not those before that.
        self.nodes[0].refuses = True
        for _ in range(9):
            self.assertIn(self.ask(), self.others)
        self.assertIn("ordercast-1", self.asked())

    def test_a_refused_handshake_of_a_websocket_goes_to_another_node(self):
        self.nodes[0].refuses = True
        for _ in range(9):
            with self.websocket() as tunnel:
                tunnel.sendall(b"hello")
                self.assertIn(tunnel.recv(100), {b"ordercast-2:hello", b"ordercast-3:hello"})
        self.assertIn("ordercast-1", self.asked())

    def test_a_change_without_a_key_is_sent_once(self):
        for node in self.nodes:
            node.hangs_up = True
        self.assertEqual(self.ask("POST")[0], 502)
        self.assertEqual(len(self.seen()), 1)

    def test_a_change_with_a_key_is_sent_again(self):
        for self.nodes[0].hangs_up, self.nodes[0].refuses in ((True, False), (False, True)):
            self.nodes[0].seen.clear()
            for _ in range(9):
                self.assertIn(self.ask("POST", headers={"Idempotency-Key": "k"}), self.others)
            self.assertIn("ordercast-1", self.asked())

    def test_a_poll_of_a_session_is_sent_once(self):
        for node in self.nodes:
            node.hangs_up = True
        self.assertEqual(self.ask(path="/socket.io/?EIO=4&transport=polling&sid=a.1")[0], 502)
        self.assertEqual(len(self.seen()), 1)

    def websocket(self):
        tunnel = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        tunnel.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = tunnel.recv(1)
            if not chunk:
                raise AssertionError(f"closed after {head!r}")
            head += chunk
        self.assertIn(b" 101 ", head.splitlines()[0])
        return tunnel

    def test_a_node_that_is_not_ready_keeps_its_sockets_and_gets_no_new_ones(self):
        with self.websocket() as tunnel:
            tunnel.sendall(b"a")
            name = tunnel.recv(100).split(b":")[0].decode()
            node = next(node for node in self.nodes if node.name == name)
            node.ready = False
            started = time.monotonic()
            eventually(lambda: self.ready_nodes() == 2)
            # DRAIN_DELAY_MS in compose.yaml and in the ConfigMap. On an idle machine it takes 1 to 2 s.
            self.assertLess(time.monotonic() - started, 5)
            self.assertNotIn(name, {self.ask()[1] for _ in range(9)})
            tunnel.sendall(b"b")
            self.assertEqual(tunnel.recv(100), f"{name}:b".encode())

    def test_when_no_node_is_ready_those_that_are_alive_answer(self):
        for node in self.nodes:
            node.ready = False
        eventually(lambda: self.ready_nodes() == 0)
        self.assertEqual(self.ask()[0], 200)


if __name__ == "__main__":
    unittest.main()
