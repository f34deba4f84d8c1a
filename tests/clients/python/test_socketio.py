"""python-socketio, as a back end or a test bench would use it, against a real server, on both transports."""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import socketio

SECRET = "python-tests-secret-of-more-than-32-bytes"
WAIT = 10


def jwt(**claims):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = part(json.dumps({"exp": int(time.time()) + 3600, **claims}).encode())
    signed = head + b"." + body
    return (signed + b"." + part(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.start(port=0)

    @classmethod
    def start(cls, port):
        cls.server = subprocess.Popen(
            [os.environ["ORDERCAST_BIN"], "serve", "--listen", f"127.0.0.1:{port}", "--jwt-secret", SECRET,
             "--token-grace-ms", "200", "--drain-ms", "500", "--database-url", f"sqlite://{cls.folder.name}/t.db?mode=rwc"],
            cwd=cls.folder.name, env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for line in cls.server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                cls.base, cls.port = found[0], int(found[1])
                break
        else:
            raise RuntimeError("the server did not print its address")

    @classmethod
    def kill(cls, how=signal.SIGKILL):
        cls.server.send_signal(how)
        cls.server.wait()
        cls.server.stdout.close()

    @classmethod
    def tearDownClass(cls):
        cls.kill()
        cls.folder.cleanup()

    def rest(self, method, path, body):
        request = urllib.request.Request(
            self.base + path, method=method, data=json.dumps(body).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {jwt(sub='backend', role='service')}"},
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def polls_waiting(self):
        with urllib.request.urlopen(f"{self.base}/metrics") as response:
            lines = response.read().decode().splitlines()
        return int(next(line for line in lines if line.startswith("ordercast_polls_waiting ")).split()[1])

    def client(self, transport, **claims):
        client = socketio.SimpleClient()
        self.addCleanup(client.disconnect)
        client.connect(self.base, namespace="/realtime", transports=[transport], auth={"token": jwt(**claims)})
        return client

    def receive(self, client, name):
        """The payload of the next event of that name; others are passed over."""
        deadline = time.monotonic() + WAIT
        while (left := deadline - time.monotonic()) > 0:
            event, payload, *_ = client.receive(timeout=left)
            if event == name:
                return payload
        self.fail(f"no {name} in {WAIT} s")

    def order(self, who):
        return self.rest("POST", "/orders", {
            "customer": {"id": f"{who}-customer", "name": "Carla"},
            "chef": {"id": f"{who}-chef", "name": "Chiara"},
            "delivery": {"address": "Ulica 2", "latitude": 45.2271, "longitude": 13.5947},
        })

    def follow_an_order(self, transport):
        who = f"python-{transport}"
        order = self.order(who)
        customer = self.client(transport, sub=f"{who}-customer", role="customer")
        self.assertEqual(self.receive(customer, "connected")["userId"], f"{who}-customer")
        answer = customer.call("subscribe:order", {"orderId": order["id"]}, timeout=WAIT)
        self.assertEqual((answer["ok"], answer["status"], answer["seq"]), (True, "pending", order["seq"]))
        self.assertTrue(self.receive(customer, "order:status_update")["snapshot"])

        path = f"/orders/{order['id']}"
        ready = self.rest("PATCH", f"{path}/status", {"status": "ready_for_pickup"})
        update = self.receive(customer, "order:status_update")
        self.assertEqual((update["status"], update["seq"]), ("ready_for_pickup", ready["seq"]))

        self.rest("POST", f"{path}/assign", {"driver": {"id": f"{who}-driver", "name": "Dino"}})
        driver = self.client(transport, sub=f"{who}-driver", role="driver")
        fix = {"latitude": 45.23, "longitude": 13.6, "orderId": order["id"]}
        self.assertTrue(driver.call("driver:location", fix, timeout=WAIT)["ok"])
        self.assertEqual(self.receive(driver, "driver:location_acknowledged")["orderIds"], [order["id"]])
        seen = self.receive(customer, "driver:location_update")
        self.assertEqual((seen["latitude"], seen["longitude"]), (45.23, 13.6))

        refused = driver.call("subscribe:order", {"orderId": "nobody-knows"}, timeout=WAIT)
        self.assertEqual((refused["ok"], refused["error"]["code"]), (False, "not_found"))

    def test_websocket(self):
        self.follow_an_order("websocket")

    def test_polling(self):
        self.follow_an_order("polling")

    def change(self, order, *statuses):
        for status in statuses:
            self.rest("PATCH", f"/orders/{order}/status", {"status": status})

    def test_missing_nothing(self):
        """A customer whose connection is gone twice, by its own close and by a kill -9 of the server, brings its position."""
        for transport in ("websocket", "polling"):
            with self.subTest(transport):
                self.miss_nothing(transport)

    def miss_nothing(self, transport):
        who = f"missing-{transport}"
        one, two = self.order(who)["id"], self.order(who)["id"]
        updates, greetings, arrived = [], [], threading.Condition()

        def keep(record):
            def handler(payload, *_):
                with arrived:
                    record.append(payload)
                    arrived.notify_all()
            return handler

        def wait(check, what):
            with arrived:
                self.assertTrue(arrived.wait_for(check, WAIT), what)

        def auth():
            # a reconnection asks again: the newest position it has, first that of its greeting
            known = updates or greetings
            token = jwt(sub=f"{who}-customer", role="customer")
            return {"token": token, "position": known[-1]["position"]} if known else {"token": token}

        def connect():
            client.connect(self.base, namespaces=["/realtime"], transports=[transport], auth=auth, wait_timeout=WAIT)

        client = socketio.Client(reconnection_delay=0.1, reconnection_delay_max=0.4)
        self.addCleanup(client.disconnect)
        client.on("order:status_update", keep(updates), namespace="/realtime")
        client.on("connected", keep(greetings), namespace="/realtime")
        connect()
        wait(lambda: greetings, "the greeting")
        self.change(one, "accepted")
        wait(lambda: len(updates) == 1, "a live event")

        client.disconnect()
        self.change(one, "preparing")
        self.change(two, "accepted")
        connect()
        wait(lambda: len(updates) == 3, "what was missed")
        self.assertTrue(all(update["replayed"] for update in updates[1:]), updates)
        self.assertEqual(greetings[1]["position"], updates[0]["position"])

        self.kill()
        self.start(self.port)
        self.change(two, "preparing", "ready_for_pickup")
        self.change(one, "cancelled")
        wait(lambda: len(updates) == 6, "what was missed or came as soon as it was back")
        self.change(two, "delivered")
        wait(lambda: len(updates) == 7, "what comes live")
        self.assertEqual(len(greetings), 3)
        positions = [update["position"] for update in updates]
        self.assertEqual(positions, sorted(set(positions)), "each once, in order")
        for order, last in ((one, 4), (two, 5)):
            self.assertEqual([update["seq"] for update in updates if update["orderId"] == order], list(range(2, last + 1)))

    def test_it_comes_back(self):
        """After a stop and a restart of the server, and with a new token after the old one has ended."""
        for transport in ("websocket", "polling"):
            with self.subTest(transport):
                self.come_back(transport)

    def come_back(self, transport):
        life = 3600
        greetings, arrived = [], threading.Condition()

        def auth():
            return {"token": jwt(sub=f"back-{transport}", role="customer", exp=int(time.time()) + life)}

        def greeted(greeting, *_):
            with arrived:
                greetings.append(greeting)
                arrived.notify_all()

        def wait(count, what):
            with arrived:
                self.assertTrue(arrived.wait_for(lambda: len(greetings) >= count, WAIT), what)

        client = socketio.Client(reconnection_delay=0.1, reconnection_delay_max=0.4)
        self.addCleanup(client.disconnect)
        client.on("connected", greeted, namespace="/realtime")
        client.connect(self.base, namespaces=["/realtime"], transports=[transport], auth=auth, wait_timeout=WAIT)
        wait(1, "the greeting")
        # The stop has to answer a poll that waits.
        while transport == "polling" and not self.polls_waiting():
            pass  # each look is a request
        self.kill(signal.SIGTERM)
        life = 2
        self.start(self.port)
        wait(2, "it comes back after a restart")
        life = 3600
        wait(3, "it comes back after its token has ended")
        client.disconnect()

    def test_subscribing_since(self):
        """A back end follows an order; after a lost connection it subscribes again from the last seq it has."""
        for transport in ("websocket", "polling"):
            with self.subTest(transport):
                order = self.order(f"since-{transport}")["id"]
                client = self.client(transport, sub="watcher", role="service")
                client.call("subscribe:order", {"orderId": order}, timeout=WAIT)
                seqs = [self.receive(client, "order:status_update")["seq"]]
                self.change(order, "accepted")
                seqs.append(self.receive(client, "order:status_update")["seq"])
                client.disconnect()
                self.change(order, "preparing", "ready_for_pickup")

                client = self.client(transport, sub="watcher", role="service")
                answer = client.call("subscribe:order", {"orderId": order, "since": seqs[-1]}, timeout=WAIT)
                self.assertEqual((answer["ok"], answer["seq"]), (True, 4))
                missed = [self.receive(client, "order:status_update") for _ in range(2)]
                self.assertTrue(all(update["replayed"] for update in missed), missed)
                self.change(order, "picked_up")
                live = self.receive(client, "order:status_update")
                self.assertNotIn("replayed", live)
                self.assertEqual(seqs + [update["seq"] for update in [*missed, live]], [1, 2, 3, 4, 5])

    def test_a_bad_position_is_refused_by_name(self):
        for position in (-1, 1.5, "abc", True, {}, [1]):
            client = socketio.Client(reconnection=False)
            refusals = []
            client.on("connect_error", refusals.append, namespace="/realtime")
            auth = {"token": jwt(sub="bad-position", role="customer"), "position": position}
            with self.assertRaises(socketio.exceptions.ConnectionError):
                client.connect(self.base, namespaces=["/realtime"], transports=["websocket"], auth=auth, wait_timeout=WAIT)
            client.disconnect()
            message = refusals[0]["message"]
            self.assertTrue(message.startswith("invalid_payload: ") and "position" in message, f"{position}: {message}")

    def test_a_bad_token_is_refused_by_name(self):
        for transport in ("websocket", "polling"):
            client = socketio.Client(reconnection=False)
            refusals = []
            client.on("connect_error", refusals.append, namespace="/realtime")
            with self.assertRaises(socketio.exceptions.ConnectionError):
                client.connect(self.base, namespaces=["/realtime"], transports=[transport],
                               auth={"token": "not.a.jwt"}, wait_timeout=WAIT)
            client.disconnect()
            self.assertTrue(refusals[0]["message"].startswith("unauthorized: "), refusals)


if __name__ == "__main__":
    unittest.main(verbosity=2)
