"""The messages service as one FastAPI application: the peer with which this project's system is compared.

A write is published to a durable quorum queue with a confirm. A consumer in the same process takes
it, writes it to MongoDB with majority, acknowledges it, and the request that waits for it is
answered then. With several uvicorn workers the queue is shared, so a write may be done by another
worker, which sends the outcome back to the queue of the worker that waits.
"""

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from uuid import uuid4

import aio_pika
import orjson
from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import ORJSONResponse
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import BaseModel, Field
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

COMMANDS = "peer.commands"
#: Deliveries that a worker holds at a time.
PREFETCH = 256
#: Seconds that a request waits for its write.
WAIT = 30


class NewMessage(BaseModel):
    from_user_id: str = Field(min_length=1, max_length=64)
    to_user_id: str = Field(min_length=1, max_length=64)
    content: str = Field(min_length=1, max_length=4000)


class Edit(BaseModel):
    content: str = Field(min_length=1, max_length=4000)


class Commands:
    """Publishes writes, applies those that it gets, and resolves the requests that wait."""

    def __init__(self, messages, connections):
        self.messages = messages
        self.publishing, self.consuming = connections
        self.waiting: dict[str, asyncio.Future] = {}

    async def start(self):
        self.publish_channel = await self.publishing.channel(publisher_confirms=True)
        self.reply_channel = await self.publishing.channel(publisher_confirms=False)
        channel = await self.consuming.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.declare_queue(
            COMMANDS, durable=True, arguments={"x-queue-type": "quorum"}
        )
        self.replies = await channel.declare_queue(exclusive=True)
        await self.replies.consume(self.on_reply, no_ack=True)
        await queue.consume(self.on_command)

    async def run(self, command: dict):
        """Publishes a write, and returns its outcome once it is stored."""
        command_id = uuid4().hex
        future = asyncio.get_running_loop().create_future()
        self.waiting[command_id] = future
        try:
            await self.publish_channel.default_exchange.publish(
                aio_pika.Message(
                    orjson.dumps(command),
                    correlation_id=command_id,
                    reply_to=self.replies.name,
                    content_type="application/json",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                ),
                routing_key=COMMANDS,
            )
            return await asyncio.wait_for(future, WAIT)
        finally:
            del self.waiting[command_id]

    async def on_command(self, delivery: aio_pika.abc.AbstractIncomingMessage):
        async with delivery.process(requeue=True):
            outcome = await self.apply(orjson.loads(delivery.body))
        if delivery.reply_to == self.replies.name:
            self.resolve(delivery.correlation_id, outcome)
        else:
            await self.reply_channel.default_exchange.publish(
                aio_pika.Message(orjson.dumps(outcome), correlation_id=delivery.correlation_id),
                routing_key=delivery.reply_to,
            )

    async def on_reply(self, delivery: aio_pika.abc.AbstractIncomingMessage):
        self.resolve(delivery.correlation_id, orjson.loads(delivery.body))

    def resolve(self, command_id: str, outcome):
        future = self.waiting.get(command_id)
        if future is not None and not future.done():
            future.set_result(outcome)

    async def apply(self, command: dict):
        if command["do"] == "create":
            message = command["message"]
            document = {"_id": message["id"], **message}
            del document["id"]
            document["publish_timestamp"] = datetime.fromisoformat(message["publish_timestamp"])
            try:
                await self.messages.insert_one(document)
            except DuplicateKeyError:
                pass  # redelivered
            return message
        if command["do"] == "edit":
            changes = {
                "content": command["content"],
                "edit_timestamp": datetime.fromisoformat(command["edit_timestamp"]),
            }
            document = await self.messages.find_one_and_update(
                {"_id": command["id"]},
                {"$set": changes},
                return_document=ReturnDocument.AFTER,
            )
            return document and as_message(document)
        result = await self.messages.delete_one({"_id": command["id"]})
        return result.deleted_count == 1


def as_message(document: dict) -> dict:
    return {
        "id": document["_id"],
        "from_user_id": document["from_user_id"],
        "to_user_id": document["to_user_id"],
        "content": document["content"],
        "publish_timestamp": document["publish_timestamp"],
        "edit_timestamp": document["edit_timestamp"],
    }


@asynccontextmanager
async def lifespan(app: FastAPI):
    client = AsyncIOMotorClient(os.environ["MONGO_URI"], w="majority", journal=True, tz_aware=True)
    messages = client[os.environ["MONGO_DATABASE"]]["messages"]
    await messages.create_index(
        [("from_user_id", 1), ("to_user_id", 1), ("publish_timestamp", -1), ("_id", -1)]
    )
    url = os.environ["RABBITMQ_URL"]
    connections = [await aio_pika.connect_robust(url) for _ in range(2)]
    app.state.messages = messages
    app.state.commands = Commands(messages, connections)
    await app.state.commands.start()
    yield
    for connection in connections:
        await connection.close()
    client.close()


app = FastAPI(lifespan=lifespan, default_response_class=ORJSONResponse)


@app.post("/api/messages")
async def create(new: NewMessage):
    message = {
        "id": str(uuid4()),
        **new.model_dump(),
        "publish_timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "edit_timestamp": None,
    }
    stored = await app.state.commands.run({"do": "create", "message": message})
    return ORJSONResponse(stored, status_code=201)


@app.get("/api/messages/{id}")
async def read(id: str):
    document = await app.state.messages.find_one({"_id": id})
    if document is None:
        raise HTTPException(404)
    return ORJSONResponse(as_message(document))


@app.get("/api/messages")
async def page(from_user_id: str, to_user_id: str, limit: int = Query(50, ge=1, le=200)):
    found = (
        app.state.messages.find({"from_user_id": from_user_id, "to_user_id": to_user_id})
        .sort([("publish_timestamp", -1), ("_id", -1)])
        .limit(limit)
    )
    return ORJSONResponse([as_message(document) for document in await found.to_list(limit)])


@app.put("/api/messages/{id}")
async def edit(id: str, edit: Edit):
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    command = {"do": "edit", "id": id, "content": edit.content, "edit_timestamp": now}
    message = await app.state.commands.run(command)
    if message is None:
        raise HTTPException(404)
    return ORJSONResponse(message)


@app.delete("/api/messages/{id}")
async def delete(id: str):
    if not await app.state.commands.run({"do": "delete", "id": id}):
        raise HTTPException(404)
    return Response(status_code=204)
