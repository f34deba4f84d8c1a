"""python-socketio as programs.test.mjs runs it, version 5 or 4: `TRANSPORT NAMESPACE BASE TOKEN ORDER`. Prints what happens, a JSON object
a line. Its handlers have one parameter where no offset is due, so a second argument is a TypeError and its event is lost."""

import inspect
import json
import sys
import threading

import socketio

transport, namespace, base, token, order = sys.argv[1:]
transports = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": ["polling", "websocket"]}[transport]
last = 0
lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.2)
speaks_5 = "auth" in inspect.signature(client.connect).parameters


def connected():
    say(at="connected")
    if namespace != "/":
        request = {"orderId": order, **({"since": last} if last else {})}
        client.emit("subscribe:order", request, namespace=namespace, callback=lambda answer: say(at="ack", ok=answer["ok"]))


def told(update):
    global last
    last = update["seq"]
    say(at="update", seq=last, arguments=1)


def told_with_offset(update, *more):
    global last
    last = update["seq"]
    say(at="update", seq=last, arguments=1 + len(more))


client.on("connect", connected, namespace=namespace)
client.on("disconnect", lambda *_: say(at="closed"), namespace=namespace)
if namespace == "/":
    client.on("orderStatusUpdate", told, namespace=namespace)
else:
    client.on("order:status_update", told_with_offset if speaks_5 else told, namespace=namespace)
if speaks_5:
    client.connect(base, namespaces=[namespace], transports=transports, auth={"token": token}, wait_timeout=10)
else:
    client.connect(f"{base}?token={token}", namespaces=[namespace], transports=transports)
sys.stdin.read()  # until the test lets go
client.disconnect()
