"""A client of the chat protocol, written from docs/protocol.md and the schema alone.

What outlives a connection (numbers, unanswered messages, cursor) is a Device; a connection that
got its Welcome is a Session. Sessions check on the way what the protocol promises about every
frame, so that scenarios only say what is special to them.
"""

import asyncio
import os
import struct
import subprocess

import myriad_pb2 as schema
import websockets
from websockets.asyncio.client import connect as connect_websocket

# Seconds until something that should come is said to be missing; the machine may be busy.
PATIENCE = 30
PREAMBLE = b"MYR\x01"
HAS = schema.MARK_HAS
READ = schema.MARK_READ


class Place:
    """Where the server is and who mints tokens: handed in by the test in the environment."""

    listen = os.environ.get("INTEROP_LISTEN", "127.0.0.1:7878")
    url = f"ws://{listen}/v1/chat"

    @staticmethod
    def token(user, device=1, seconds=3600):
        command = [os.environ["INTEROP_MYRIAD"], "token"]
        command += ["--auth-secret-file", os.environ["INTEROP_SECRET_FILE"]]
        command += ["--user", str(user), "--device", str(device), "--ttl-s", str(seconds)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Ended(Exception):
    """The server ended the connection; `code` is the close code, None on TCP."""

    def __init__(self, code=None):
        super().__init__(f"the connection ended with code {code}")
        self.code = code


class WebSocket:
    """Frames as binary messages of the `websockets` package."""

    name = "ws"

    @classmethod
    async def connect(cls, url=None, **options):
        options.setdefault("subprotocols", ["myriad.v1"])
        self = cls()
        self.socket = await connect_websocket(url or Place.url, proxy=None, **options)
        return self

    async def send(self, data):
        await self.socket.send(data)

    async def receive(self):
        try:
            data = await self.socket.recv()
        except websockets.ConnectionClosed as closed:
            raise Ended(closed.rcvd.code if closed.rcvd else None) from closed
        assert isinstance(data, bytes), "the server sends binary messages only"
        return data

    async def close(self, code=1000, reason=""):
        await self.socket.close(code, reason)
        return self.socket.close_code

    def abort(self):
        self.socket.transport.abort()


class Tcp:
    """Frames behind their length on plain TCP."""

    name = "tcp"

    @classmethod
    async def connect(cls, preamble=PREAMBLE):
        self = cls()
        host, port = Place.listen.rsplit(":", 1)
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        self.writer.write(preamble)
        return self

    async def send(self, data):
        self.writer.write(struct.pack("<I", len(data)) + data)
        await self.writer.drain()

    async def receive(self):
        try:
            (length,) = struct.unpack("<I", await self.reader.readexactly(4))
            return await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Ended() from error

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()

    def abort(self):
        self.writer.transport.abort()


class Device:
    """What a device of a user keeps, whatever happens to its connections."""

    def __init__(self, user, device=1, transport=WebSocket):
        self.user = user
        self.device = device
        self.transport = transport
        self.token = Place.token(user, device)
        self.next_id = 1
        self.base = 0
        self.answered = set()
        self.outbox = {}
        self.acked = 0

    def confirmed(self):
        """All up to base, and base + 1 + i where bit i of map is set."""
        while self.base + 1 in self.answered:
            self.base += 1
        above = (number - self.base - 1 for number in self.answered if number > self.base)
        return schema.Confirmed(base=self.base, map=sum(1 << bit for bit in above if bit < 64))

    def answer(self, client_id):
        self.answered.add(client_id)
        self.outbox.pop(client_id, None)

    async def login(self, resume_after=None, confirmed=None, active=True):
        """A session, after its Welcome."""
        session = Session(self, await self.transport.connect())
        await session.put(
            hello=schema.Hello(
                token=self.token,
                resume_after=self.acked if resume_after is None else resume_after,
                confirmed=confirmed or self.confirmed(),
                active=active,
            )
        )
        session.welcome = await session.next("welcome")
        assert (session.welcome.user, session.welcome.device) == (self.user, self.device)
        self.next_id = max(self.next_id, session.welcome.next_client_id)
        # Ids below the smallest free one are none of this device's unless it waits for them.
        if not self.outbox and not self.answered:
            self.base = self.next_id - 1
        return session


class Session:
    """A connection, from its Hello on."""

    def __init__(self, device, transport):
        self.device = device
        self.transport = transport
        self.waiting = []
        self.receipts = []
        self.delivered_up_to = 0

    async def put(self, **body):
        await self.transport.send(schema.ClientFrame(**body).SerializeToString())

    async def frame(self):
        """The next frame, judged by what holds for all of its kind."""
        async with asyncio.timeout(PATIENCE):
            data = await self.transport.receive()
        frame = schema.ServerFrame.FromString(data)
        kind = frame.WhichOneof("body")
        assert kind, f"a frame without a known body: {data.hex()}"
        body = getattr(frame, kind)
        if kind == "deliver":
            assert body.position > self.delivered_up_to, "deliveries come in order, and once"
            assert body.id.sender and body.id.device and body.id.client_id and body.time_ms
            self.delivered_up_to = body.position
        elif kind == "receipt":
            assert body.mark in (HAS, READ) and body.after < body.up_to
            self.receipts.append(body)
        elif kind == "sent" or kind == "refused" and not body.retriable:
            self.device.answer(body.client_id)
        return kind, body

    def keep(self, kind, body):
        """Lays a frame aside for whoever asks for it; receipts have a place of their own."""
        if kind != "receipt":
            self.waiting.append((kind, body))

    async def next(self, wanted, **fields):
        """The next frame of a kind with these fields; others wait for whoever asks for them."""

        def fits(kind, body):
            return kind == wanted and all(getattr(body, k) == v for k, v in fields.items())

        for index, (kind, body) in enumerate(self.waiting):
            if fits(kind, body):
                del self.waiting[index]
                return body
        while True:
            try:
                kind, body = await self.frame()
            except (TimeoutError, Ended) as error:
                seen = [kind for kind, _ in self.waiting]
                raise AssertionError(f"no {wanted} {fields}: {error!r}; seen {seen}") from error
            if fits(kind, body):
                return body
            self.keep(kind, body)
            assert kind != "goodbye", f"waited for {wanted} {fields}, got goodbye: {body}"

    async def send(self, to, payload, **more):
        """Sends a new message to a user, and gives its number."""
        client_id = self.device.next_id
        self.device.next_id += 1
        send = schema.Send(client_id=client_id, user=to, payload=payload, **more)
        self.device.outbox[client_id] = send
        await self.send_again(client_id)
        return client_id

    async def send_again(self, client_id):
        send = self.device.outbox[client_id]
        send.confirmed.CopyFrom(self.device.confirmed())
        await self.put(send=send)

    async def sent(self, client_id):
        sent = await self.answer_of("sent", client_id)
        assert sent.position and sent.time_ms
        return sent.position

    async def refused(self, client_id, reason, retriable=False):
        refused = await self.answer_of("refused", client_id)
        name = schema.Refusal.Name(refused.reason)
        assert name == reason, f"refused with {name} instead of {reason}"
        assert refused.retriable == retriable, f"retriable is {refused.retriable}"
        return refused

    async def answer_of(self, kind, client_id):
        """The answer to a Send; the other kind of answer is an error at once."""
        other = {"sent": "refused", "refused": "sent"}[kind]
        while True:
            for index, (found, body) in enumerate(self.waiting):
                if found in (kind, other) and body.client_id == client_id:
                    del self.waiting[index]
                    assert found == kind, f"{found} instead of {kind}: {body}"
                    return body
            self.keep(*await self.frame())

    async def ticked(self, peer, position, mark):
        """Waits until a receipt says that the peer has, or has read, what is at a position."""
        while not any(
            receipt.stream.user == peer
            and receipt.after < position <= receipt.up_to
            and receipt.mark >= mark  # what is read is also had
            for receipt in self.receipts
        ):
            self.keep(*await self.frame())

    async def deliver(self, payload=None, ack=True):
        """The next message from somebody, which has this payload, acked."""
        body = await self.next("deliver", to=schema.Stream())
        if payload is not None:
            found = body.payload
            assert found == payload, f"{found[:80]} delivered instead of {payload[:80]}"
        if ack:
            await self.ack(body.position)
        return body

    async def copy(self, payload, to):
        """The copy of what another device of this user sent, whatever else comes before it."""
        body = await self.next("deliver", to=schema.Stream(user=to), payload=payload)
        await self.ack(body.position)
        return body

    async def ack(self, position):
        self.device.acked = max(self.device.acked, position)
        await self.put(ack=schema.Ack(up_to=position))

    async def read(self, peer, position):
        await self.put(read=schema.Read(stream=schema.Stream(user=peer), up_to=position))

    async def quiet(self, *allowed):
        """Says Ping, and checks that before its Pong nothing came that nobody asked for."""
        await self.put(ping=schema.Ping(answer=True, active=True))
        pong = await self.next("pong")
        assert pong.server_time_ms
        left = [(kind, body) for kind, body in self.waiting if kind not in allowed]
        assert not left, f"nobody expected {left}"

    async def goodbye(self, reason, code):
        """The server's last frame, and the close code after it where there is one."""
        body = await self.last_words()
        name = schema.Parting.Name(body.reason)
        assert name == reason, f"goodbye {name} instead of {reason}"
        try:
            late = await self.frame()
        except Ended as ended:
            expected = code if self.transport.name == "ws" else None
            assert ended.code == expected, f"closed with {ended.code} instead of {expected}"
            return body
        raise AssertionError(f"{late} after a goodbye")

    async def last_words(self):
        while True:
            try:
                kind, body = await self.frame()
            except Ended as ended:
                raise AssertionError(f"ended without a goodbye: {ended}") from ended
            if kind == "goodbye":
                return body
            self.keep(kind, body)

    async def close(self, code=1000, reason=""):
        """Ends the connection; on a WebSocket the server answers with the same code."""
        if self.transport.name == "tcp":
            await self.transport.close()
            return
        answer = await self.transport.close(code, reason)
        assert answer == code, f"close {code} was answered with {answer}"
