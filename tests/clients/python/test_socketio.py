"""python-socketio, as a back end or a test bench would use it, against a real server, on both transports."""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import tempfile
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
        cls.server = subprocess.Popen(
            [os.environ["ORDERCAST_BIN"], "serve", "--listen", "127.0.0.1:0", "--jwt-secret", SECRET,
             "--database-url", f"sqlite://{cls.folder.name}/t.db?mode=rwc"],
            cwd=cls.folder.name, env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for line in cls.server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                cls.base = found[0]
                break
        else:
            raise RuntimeError("the server did not print its address")

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()
        cls.server.wait()
        cls.server.stdout.close()
        cls.folder.cleanup()

    def rest(self, method, path, body):
        request = urllib.request.Request(
            self.base + path, method=method, data=json.dumps(body).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {jwt(sub='backend', role='service')}"},
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

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

    def follow_an_order(self, transport):
        who = f"python-{transport}"
        order = self.rest("POST", "/orders", {
            "customer": {"id": f"{who}-customer", "name": "Carla"},
            "chef": {"id": f"{who}-chef", "name": "Chiara"},
            "delivery": {"address": "Ulica 2", "latitude": 45.2271, "longitude": 13.5947},
        })
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
