"""A bare relay with FastAPI and uvicorn: JSON text frames on /ws, with hand-written rooms as in its documentation.

Run it with `python -P`. Otherwise `import fastapi` would import this file.
"""

import os
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect


@asynccontextmanager
async def lifespan(_app):
    print("ready", flush=True)
    yield


app = FastAPI(lifespan=lifespan)
rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


def frame(value) -> str:
    return orjson.dumps(value).decode()


async def location(driver: str, fix: dict) -> dict:
    received_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    update = {
        "orderId": fix["orderId"],
        "driverId": driver,
        "latitude": fix["latitude"],
        "longitude": fix["longitude"],
        "heading": fix["heading"],
        "speed": fix["speed"],
        "timestamp": received_at,
        "receivedAt": received_at,
        "ageMs": 0,
        "conflated": 0,
    }
    text = frame({"event": "driver:location_update", "data": update})
    for watcher in tuple(rooms[fix["orderId"]]):
        await watcher.send_text(text)
    return {"ok": True, "receivedAt": received_at}


@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    me, mine = str(uuid4()), set()
    try:
        while True:
            request = orjson.loads(await socket.receive_text())
            data = request["data"]
            if request["event"] == "subscribe:order":
                order = data["orderId"]
                rooms[order].add(socket)
                mine.add(order)
                answer = {"ok": True, "orderId": order}
            else:
                answer = await location(me, data)
            await socket.send_text(frame({"id": request["id"], "data": answer}))
    except WebSocketDisconnect:
        pass
    finally:
        for order in mine:
            rooms[order].discard(socket)


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    ws="websockets-sansio",
    ws_per_message_deflate=False,
    log_level="error",
    access_log=False,
)
