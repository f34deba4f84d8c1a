"""Follows one order and misses nothing, whatever happens to the connection: ORDER TOKEN [SERVER]

    pip install 'python-socketio[client]'
"""

import queue
import sys

import socketio

order, token, *server = sys.argv[1:]
url = server[0] if server else "http://127.0.0.1:9001"
REALTIME = "/realtime"
FINAL = {"delivered", "returned", "cancelled"}

client = socketio.Client(reconnection_delay=1, reconnection_delay_max=5)
position = None  # how far this program has read the log of all orders
seq = 0  # and how far it is with this one
ended = queue.Queue()  # why this program ends; None if all is well


def auth():
    """Asked at every connection. Who brings a position is told what came after it."""
    return {"token": token, **({"position": position} if position is not None else {})}


@client.on("connected", namespace=REALTIME)
def connected(greeting):
    global position
    if position is None:
        position = greeting["position"]
    # Also after a return: orders that are not one's own are followed anew. `since` brings what is missing of this one.
    request = {"orderId": order, **({"since": seq} if seq else {})}
    client.emit("subscribe:order", request, namespace=REALTIME, callback=subscribed)


def subscribed(answer):
    if not answer["ok"]:
        ended.put(answer["error"]["message"])
        return
    print("following", flush=True)


# The one more argument, the offset, is for clients with connection state recovery; this one brings its position.
@client.on("order:status_update", namespace=REALTIME)
def changed(update, *offset):
    global position, seq
    position = max(position, update["position"])
    if update["orderId"] != order or update["seq"] <= seq:
        return  # told already: by the position, or by `since`
    seq = update["seq"]
    print(seq, update["status"], flush=True)
    if update["status"] in FINAL:
        ended.put(None)


@client.on("resync", namespace=REALTIME)
def resync(reason):
    """More was missed than is replayed. `subscribe:order` tells this order's state all the same."""
    print("resync:", reason["reason"], flush=True)


@client.on("disconnect", namespace=REALTIME)
def away(*reason):
    print("away", *reason, flush=True)


@client.on("connect_error", namespace=REALTIME)
def failed(error):
    """A dictionary is the server's no, such as to a wrong token. All else is the network's, and the client tries again by itself."""
    if isinstance(error, dict):
        ended.put(error["message"])


try:
    client.connect(url, namespaces=[REALTIME], auth=auth, retry=True)
except socketio.exceptions.ConnectionError as error:
    ended.put(str(error))
why = ended.get()
client.disconnect()
sys.exit(why)
