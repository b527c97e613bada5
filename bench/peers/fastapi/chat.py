"""The FastAPI peer's WebSocket: each second a random stored message to all subscribers.

As such a service is commonly written: one process, a connection manager, Motor for the database, and a
RabbitMQ exchange in between so that several processes could share the samples. The frame is encoded once.
"""

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager

import aio_pika
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from motor.motor_asyncio import AsyncIOMotorClient

EXCHANGE = "peer.broadcast"
subscribers: set[WebSocket] = set()
messages = AsyncIOMotorClient(os.environ["MONGO_URI"], uuidRepresentation="standard")[
    os.environ["MONGO_DATABASE"]
]["messages"]


def encode(document: dict) -> str:
    message = {
        "id": str(document["_id"]),
        "from_user_id": document["from_user_id"],
        "to_user_id": document["to_user_id"],
        "content": document["content"],
        "publish_timestamp": document["publish_timestamp"].isoformat(timespec="milliseconds") + "Z",
        "edit_timestamp": None,
    }
    return json.dumps(message, separators=(",", ":"))


async def sample(exchange: aio_pika.abc.AbstractExchange) -> None:
    due = time.monotonic()
    while True:
        due = max(due + 1, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        tick_us = time.time_ns() // 1000
        async for document in messages.aggregate([{"$sample": {"size": 1}}]):
            print(f"tick {document['_id']} {tick_us} {time.time_ns() // 1000}", flush=True)
            await exchange.publish(aio_pika.Message(encode(document).encode()), routing_key="")


async def send_to_all(message: aio_pika.abc.AbstractIncomingMessage) -> None:
    text = message.body.decode()
    for subscriber in list(subscribers):
        try:
            await subscriber.send_text(text)
        except (WebSocketDisconnect, RuntimeError):
            subscribers.discard(subscriber)


@asynccontextmanager
async def lifespan(_: FastAPI):
    connection = await aio_pika.connect_robust(os.environ["RABBITMQ_URL"])
    channel = await connection.channel()
    exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.FANOUT)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange)
    await queue.consume(send_to_all, no_ack=True)
    sampling = asyncio.create_task(sample(exchange))
    yield
    sampling.cancel()
    await connection.close()


app = FastAPI(lifespan=lifespan)


@app.websocket("/api/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    subscribers.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        subscribers.discard(socket)
