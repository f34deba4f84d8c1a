"""A bare relay with python-socketio and uvicorn."""

import os
from datetime import UTC, datetime

import socketio
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi", namespaces=["/realtime"], transports=["websocket"])


@sio.on("subscribe:order", namespace="/realtime")
async def subscribe(sid, data):
    order = data["orderId"]
    await sio.enter_room(sid, f"order:{order}", namespace="/realtime")
    return {"ok": True, "orderId": order}


@sio.on("driver:location", namespace="/realtime")
async def location(sid, fix):
    received_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    update = {
        "orderId": fix["orderId"],
        "driverId": sid,
        "latitude": fix["latitude"],
        "longitude": fix["longitude"],
        "heading": fix["heading"],
        "speed": fix["speed"],
        "timestamp": received_at,
        "receivedAt": received_at,
        "ageMs": 0,
        "conflated": 0,
    }
    await sio.emit("driver:location_update", update, room=f"order:{fix['orderId']}", namespace="/realtime")
    return {"ok": True, "receivedAt": received_at}


async def ready():
    print("ready", flush=True)


uvicorn.run(
    socketio.ASGIApp(sio, on_startup=ready),
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    ws="websockets-sansio",
    # Engine.IO has its own heartbeat.
    ws_ping_interval=None,
    ws_per_message_deflate=False,
    log_level="error",
    access_log=False,
)
