"""What the server sends to providers, looked at with libraries of those who know: Google's description of its own interface, google-auth,
http_ece and py-vapid for Web Push, and Twilio's check of signatures."""

import base64
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import google.auth.jwt
import http_ece
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from py_vapid import Vapid02
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from twilio.request_validator import RequestValidator

from test_socketio import SECRET, jwt

WAIT = 15
TWILIO_TOKEN = "a-token-of-twilio"


class Providers(BaseHTTPRequestHandler):
    """All providers in one server: it keeps what it was asked, and says yes."""

    asked = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.path, dict(self.headers.items()), body))
        if self.path == "/token":
            answer = {"access_token": "ya29.x", "expires_in": 3600}
        elif self.path.endswith("Messages.json"):
            answer = {"sid": "SM1"}
        else:
            answer = {"name": "projects/p/messages/1"}
        text = json.dumps(answer).encode()
        self.send_response(201 if self.path.startswith("/wpush") else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def undo64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class PushedTo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.providers = ThreadingHTTPServer(("127.0.0.1", 0), Providers)
        threading.Thread(target=cls.providers.serve_forever, daemon=True).start()
        cls.there = f"http://127.0.0.1:{cls.providers.server_address[1]}"
        cls.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = cls.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        key_file = os.path.join(cls.folder.name, "fcm.json")
        with open(key_file, "w") as out:
            json.dump({"type": "service_account", "project_id": "demo", "private_key_id": "k1", "private_key": pem.decode(),
                       "client_email": "push@demo.iam.gserviceaccount.com", "token_uri": f"{cls.there}/token"}, out)
        env = {
            "PATH": os.environ["PATH"], "NOTIFY_KEY": "cd" * 32, "FCM_KEY_FILE": key_file, "FCM_URL": cls.there,
            "VAPID_SUBJECT": "mailto:ops@example.com", "OUTBOUND_ALLOW": "127.0.0.0/8", "SMS_PROVIDER": "twilio",
            "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": TWILIO_TOKEN, "TWILIO_FROM": "+15550000", "TWILIO_URL": cls.there,
            "PUBLIC_URL": "https://track.example.com",
        }
        cls.server = subprocess.Popen(
            [os.environ["ORDERCAST_BIN"], "serve", "--listen", "127.0.0.1:0", "--jwt-secret", SECRET,
             "--database-url", f"sqlite://{cls.folder.name}/t.db?mode=rwc"],
            cwd=cls.folder.name, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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
        cls.providers.shutdown()
        cls.providers.server_close()
        cls.folder.cleanup()

    def call(self, method, path, body=None, user=("root", "admin"), headers=None, form=None):
        data = urllib.parse.urlencode(form).encode() if form else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers={
            "content-type": "application/x-www-form-urlencoded" if form else "application/json", **(headers or {}),
            **({"authorization": f"Bearer {jwt(sub=user[0], role=user[1])}"} if user else {})})
        try:
            with urllib.request.urlopen(request) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text
        except urllib.error.HTTPError as error:
            error.read()
            return error.code, None

    def wait_for(self, path, more=lambda asked: True):
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            for asked in list(Providers.asked):
                if asked[0].startswith(path) and more(asked):
                    return asked
            time.sleep(0.02)
        self.fail(f"nobody asked for {path}")

    def order(self, order_id, customer, phone=None):
        made = {"id": order_id, "customer": {"id": customer, "name": "Clara", **({"phone": phone} if phone else {})},
                "chef": {"id": "chef", "name": "Chiara"},
                "delivery": {"address": "Linden Lane 12", "latitude": 47.15, "longitude": 9.53}}
        self.assertEqual(self.call("POST", "/orders", made)[0], 201)

    def test_the_library_of_standard_webhooks_verifies_a_message(self):
        status, hook = self.call("POST", "/webhooks", {"url": f"{self.there}/hook", "events": ["order.created"]})
        self.assertEqual(status, 201)
        self.order("hooked", "webhook-customer")
        _, headers, body = self.wait_for("/hook")
        library = Webhook(hook["secret"])
        self.assertEqual(library.verify(body, headers)["data"]["order"]["id"], "hooked")
        with self.assertRaises(WebhookVerificationError):
            library.verify(body + b" ", headers)

    def check_with_google(self, request):
        document = json.loads(
            (files("googleapiclient") / "discovery_cache" / "documents" / "fcm.v1.json").read_text())
        schemas = document["schemas"]

        def check(value, schema, where):
            schema = schemas[schema["$ref"]] if "$ref" in schema else schema
            if schema.get("type") == "object" and "properties" in schema:
                self.assertIsInstance(value, dict, where)
                for name, inner in value.items():
                    self.assertIn(name, schema["properties"], f"{where}.{name} is unknown to Google")
                    check(inner, schema["properties"][name], f"{where}.{name}")
            elif schema.get("type") == "object" and "$ref" not in schema.get("additionalProperties", {"type": "any"}):
                wanted = schema.get("additionalProperties", {}).get("type")
                for name, inner in value.items():
                    if wanted == "string":
                        self.assertIsInstance(inner, str, f"{where}.{name}")
            elif "enum" in schema:
                self.assertIn(value.upper(), schema["enum"], where)
            elif schema.get("type") == "string":
                self.assertIsInstance(value, str, where)

        check(request, {"$ref": "SendMessageRequest"}, "request")

    def test_google_knows_every_member_of_a_message(self):
        for token in ({"token": "device-1"}, {"fid": "installation-1"}):
            name = next(iter(token))
            self.assertEqual(self.call("PUT", f"/devices/{name}", {"kind": "fcm", **token}, ("google", "customer"))[0], 201)
        self.order("g1", "google")
        for status in ("accepted", "picked_up", "delivered"):
            self.call("PATCH", "/orders/g1/status", {"status": status})
            for name in ("token", "fid"):
                kind = {"accepted": "order.accepted", "picked_up": "order.on_the_way", "delivered": "order.delivered"}[status]
                path, headers, body = self.wait_for("/v1/projects/demo/messages:send", lambda asked: (
                    name in json.loads(asked[2])["message"] and json.loads(asked[2])["message"].get("data", {}).get("kind") == kind))
                self.check_with_google(json.loads(body))
                self.assertEqual(headers["authorization"], "Bearer ya29.x")
                self.assertLessEqual(len(body), 4096)
        # The assertion that the token was got with.
        _, _, form = self.wait_for("/token")
        form = urllib.parse.parse_qs(form.decode())
        self.assertEqual(form["grant_type"], ["urn:ietf:params:oauth:grant-type:jwt-bearer"])
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        claims = google.auth.jwt.decode(form["assertion"][0], certs={"k1": public}, audience=f"{self.there}/token")
        self.assertEqual(claims["iss"], "push@demo.iam.gserviceaccount.com")
        self.assertEqual(claims["scope"], "https://www.googleapis.com/auth/firebase.messaging")
        self.assertLessEqual(claims["exp"] - claims["iat"], 3600)

    def test_google_knows_every_member_of_a_live_activity(self):
        self.order("g2", "lively")
        for name in ("token", "fid"):
            self.assertEqual(self.call("PUT", f"/devices/live-{name}", {
                "kind": "fcm", name: f"app-{name}", "liveActivityToken": f"ab{len(name)}", "orderId": "g2"}, ("lively", "customer"))[0], 201)
        for status, event in (("accepted", "update"), ("delivered", "end")):
            self.call("PATCH", "/orders/g2/status", {"status": status})
            for name in ("token", "fid"):
                def is_it(asked):
                    apns = json.loads(asked[2])["message"]["apns"]
                    state = apns["payload"]["aps"].get("content-state", {})
                    return apns.get("liveActivityToken") == f"ab{len(name)}" and state.get("status") == status
                _, _, body = self.wait_for("/v1/projects/demo/messages:send", is_it)
                request = json.loads(body)
                self.check_with_google(request)
                self.assertEqual(request["message"][name], f"app-{name}")
                self.assertEqual(request["message"]["apns"]["payload"]["aps"]["event"], event)
                self.assertLessEqual(len(body), 4096)

    def test_a_browser_can_read_what_is_pushed(self):
        browser = ec.generate_private_key(ec.SECP256R1())
        auth = os.urandom(16)
        point = browser.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        endpoint = f"{self.there}/wpush/1"
        subscription = {"endpoint": endpoint, "keys": {"p256dh": url64(point), "auth": url64(auth)}}
        status, _ = self.call("POST", "/devices", {"kind": "webpush", "subscription": subscription}, ("web", "customer"))
        self.assertEqual(status, 201)
        self.order("w1", "web")
        self.call("PATCH", "/orders/w1/status", {"status": "accepted"})
        _, headers, body = self.wait_for("/wpush/1")
        message = json.loads(http_ece.decrypt(body, private_key=browser, auth_secret=auth, version="aes128gcm"))
        self.assertEqual(message["data"]["kind"], "order.accepted")
        self.assertEqual(message["tag"], "order:w1")
        headers = {name.lower(): value for name, value in headers.items()}
        self.assertTrue(Vapid02.verify(headers["authorization"]))
        token = re.search(r"t=([^,]+)", headers["authorization"])[1]
        claims = json.loads(undo64(token.split(".")[1]))
        self.assertEqual((claims["aud"], claims["sub"]), (self.there, "mailto:ops@example.com"))
        self.assertLessEqual(claims["exp"] - time.time(), 24 * 3600)
        public = self.call("GET", "/push/vapid-key", user=None)[1]["publicKey"]
        self.assertIn(f"k={public}", headers["authorization"])

    def test_twilio_signs_as_twilio_does(self):
        phone = "+41790000001"
        path = "/hooks/sms/twilio/inbound"
        form = {"From": phone, "To": "+15550000", "Body": "STOP", "MessageSid": "SM2"}
        signature = RequestValidator(TWILIO_TOKEN).compute_signature(f"https://track.example.com{path}", form)
        self.assertEqual(self.call("POST", path, user=None, form=form, headers={"X-Twilio-Signature": "x" + signature})[0], 404)
        self.assertEqual(self.call("POST", path, user=None, form=form, headers={"X-Twilio-Signature": signature})[0], 200)
        self.order("s1", "texted", phone)
        self.call("PATCH", "/orders/s1/status", {"status": "picked_up"})
        end = time.monotonic() + WAIT
        states = []
        while "opted_out" not in states and time.monotonic() < end:
            lines = self.call("GET", "/orders/s1/notifications")[1]["items"]
            states = [line["state"] for line in lines if line["kind"] == "order.on_the_way"]
            time.sleep(0.02)
        self.assertEqual(states, ["opted_out"])


if __name__ == "__main__":
    unittest.main()
