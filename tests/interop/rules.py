"""Scenarios of docs/protocol.md, played by one process as all the people in them.

    rules.py ws|tcp [NAME ...]

Each scenario has users of its own. Numbers of users lie above 2^63, so that whoever cuts them
anywhere on the way is found out.
"""

import asyncio
import struct
import sys
import time
import traceback

import myriad_pb2 as schema
import websockets
from client import HAS, READ, Device, Place, Session, Tcp, WebSocket

TRANSPORTS = {"ws": WebSocket, "tcp": Tcp}
FIRST_USER = (1 << 63) + (1 << 53) + 1
KIB = 1024


class Town:
    """Hands out people nobody has met."""

    def __init__(self, transport):
        self.transport = transport
        self.last = FIRST_USER + (1000 if transport is Tcp else 0)

    def device(self, user=None, device=1):
        if user is None:
            self.last += 1
            user = self.last
        return Device(user, device, self.transport)

    async def pair(self):
        """Two people, both logged in."""
        alice, bob = self.device(), self.device()
        return await alice.login(), await bob.login()


def pattern(length, seed):
    """Bytes that show when some are missing or change places."""
    return bytes((index * 31 + (index >> 8) + seed) & 255 for index in range(length))


async def fails_to_log_in(town, reason, code, *frames):
    """Opens a connection, sends these frames, and expects a goodbye."""
    session = Session(town.device(), await town.transport.connect())
    for frame in frames:
        await session.transport.send(frame.SerializeToString())
    return await session.goodbye(reason, code)


def hello(token):
    return schema.ClientFrame(hello=schema.Hello(token=token))


# ---------------------------------------------------------------- both transports


async def welcome_says_who_and_what(town):
    session = await town.device().login()
    welcome = session.welcome
    assert welcome.next_client_id == 1 and welcome.heartbeat_ms >= 1000
    assert abs(welcome.server_time_ms - time.time() * 1000) < 60_000
    assert welcome.limits == schema.Limits(
        payload_bytes_max=64 * KIB,
        unacked_messages_max=64,
        unacked_bytes_max=64 * KIB,
        unconfirmed_ids_max=64,
        watched_users_max=64,
        asked_peers_max=256,
    ), welcome.limits
    await session.quiet()
    await session.close()


async def a_message_gets_its_three_ticks(town):
    alice, bob = await town.pair()
    payloads = ["Grüße aus Köln, 你好 🙂".encode(), b"", pattern(64 * KIB, 1), b"\0\xff\xfe"]
    for payload in payloads:
        number = await alice.send(bob.device.user, payload, kind=7)
        delivered = await bob.deliver(ack=False)
        assert (delivered.payload, delivered.kind) == (payload, 7)
        me = alice.device
        expected = schema.MessageId(sender=me.user, device=1, client_id=number)
        assert delivered.id == expected, delivered.id
        assert not delivered.HasField("stream") and not delivered.HasField("to")
        position = await alice.sent(number)
        assert position == delivered.position, "the position is that in the inbox of bob"
        assert not alice.receipts, "nobody acked yet"
        await bob.ack(delivered.position)
        await alice.ticked(bob.device.user, position, HAS)
        assert all(receipt.mark == HAS for receipt in alice.receipts), "nobody read yet"
        await bob.read(me.user, delivered.position)
        await alice.ticked(bob.device.user, position, READ)
        alice.receipts.clear()
    await alice.quiet()
    await bob.quiet()


async def a_reply_names_what_it_answers(town):
    alice, bob = await town.pair()
    await alice.send(bob.device.user, b"question")
    question = await bob.deliver()
    relation = schema.Relation(kind=1, target=question.id)
    await bob.send(alice.device.user, b"answer", relation=relation)
    answer = await alice.deliver(b"answer")
    assert answer.relation == relation and answer.relation.target.sender == alice.device.user


async def what_waited_comes_in_order(town):
    alice, bob = await town.pair()
    await bob.close()
    numbers = []
    for index in range(150):
        numbers.append(await alice.send(bob.device.user, b"%d" % index))
        if len(numbers) % 50 == 0:  # at most 64 unanswered ids
            positions = [await alice.sent(number) for number in numbers[-50:]]
            assert positions == sorted(positions)
    bob = await bob.device.login()
    # Un-acked, 64 come and no more.
    got = [await bob.deliver(ack=False) for _ in range(64)]
    await bob.quiet()
    await bob.ack(got[-1].position)
    # Half of the rest, then the line breaks; what was acked does not come again.
    got += [await bob.deliver() for _ in range(36)]
    bob.transport.abort()
    bob = await bob.device.login()
    got += [await bob.deliver() for _ in range(50)]
    assert [delivered.payload for delivered in got] == [b"%d" % index for index in range(150)]
    assert [delivered.id.client_id for delivered in got] == numbers
    await bob.quiet()
    await alice.ticked(bob.device.user, got[-1].position, HAS)


async def a_retry_gets_its_first_answer(town):
    alice, bob = await town.pair()
    number = await alice.send(bob.device.user, b"once")
    message = alice.device.outbox[number]
    position = await alice.sent(number)
    assert (await bob.deliver()).position == position
    # The answer is lost: a device that never saw it comes back.
    alice.transport.abort()
    alice.device.answered.clear()
    alice.device.outbox[number] = message
    alice = await alice.device.login()
    assert alice.welcome.next_client_id == number + 1
    await alice.send_again(number)
    assert await alice.sent(number) == position
    await bob.quiet()
    # The same number for something else.
    await alice.put(send=schema.Send(client_id=number, user=bob.device.user, payload=b"other"))
    refused = await alice.refused(number, "REFUSAL_ID_REUSED")
    assert refused.next_client_id == number + 1
    # And after the answer was confirmed.
    await alice.put(ping=schema.Ping(confirmed=alice.device.confirmed()))
    await alice.put(send=message)
    refused = await alice.refused(number, "REFUSAL_STALE_ID")
    assert refused.next_client_id == number + 1
    await bob.quiet()


async def a_send_cut_off_is_sent_again(town):
    alice, bob = await town.pair()
    for index in range(5):
        number = await alice.send(bob.device.user, b"cut %d" % index)
        alice.transport.abort()  # before any answer
        alice = await alice.device.login()
        await alice.send_again(number)
        position = await alice.sent(number)
        delivered = await bob.deliver()
        assert delivered.payload == b"cut %d" % index and delivered.position == position
    await bob.quiet()


async def a_refusal_names_its_reason(town):
    alice, bob = await town.pair()
    stranger = 987_654_321
    await alice.refused(await alice.send(stranger, b"hello?"), "REFUSAL_UNKNOWN_USER")
    too_large = await alice.send(bob.device.user, bytes(64 * KIB + 1))
    await alice.refused(too_large, "REFUSAL_PAYLOAD_TOO_LARGE")
    number = alice.device.next_id
    alice.device.next_id += 1
    await alice.put(send=schema.Send(client_id=number, group=1, payload=b"to all"))
    await alice.refused(number, "REFUSAL_NOT_MEMBER")
    await alice.sent(await alice.send(bob.device.user, b"to you"))
    await bob.deliver(b"to you")
    await bob.quiet()


async def a_full_window_opens_again(town):
    alice, bob = await town.pair()
    base = alice.device.base
    far = base + 65

    def send(client_id, base):
        confirmed = schema.Confirmed(base=base)
        return schema.Send(
            client_id=client_id, confirmed=confirmed, user=bob.device.user, payload=b"far"
        )

    await alice.put(send=send(far, base))
    await alice.refused(far, "REFUSAL_WINDOW_FULL", retriable=True)
    # With the base raised over ids never used it fits.
    await alice.put(send=send(far, base + 10))
    await alice.put(send=send(far + 1, base + 10))
    first, second = await alice.sent(far), await alice.sent(far + 1)
    assert first < second
    got = [(await bob.deliver()).id.client_id for _ in range(2)]
    assert got == [far, far + 1]


async def a_second_device_joins(town):
    alice, bob = await town.pair()
    await alice.sent(await alice.send(bob.device.user, b"before"))
    await bob.deliver(b"before")
    tablet = await town.device(alice.device.user, 2).login()
    event = await alice.next("device_event")
    assert (event.device, event.added) == (2, True)
    # A copy of what the other device sent, with the position its receipts speak of.
    number = await alice.send(bob.device.user, b"from the phone")
    position = await alice.sent(number)
    copy = await tablet.copy(b"from the phone", bob.device.user)
    assert copy.to_position == position
    assert (copy.id.sender, copy.id.device) == (alice.device.user, 1)
    theirs = await bob.deliver(b"from the phone")
    await bob.read(alice.device.user, theirs.position)
    for session in (alice, tablet):
        await session.ticked(bob.device.user, position, READ)
    # What one device read, the other is told.
    await bob.sent(await bob.send(alice.device.user, b"to both"))
    on_both = [await session.deliver(b"to both") for session in (alice, tablet)]
    assert on_both[0].position == on_both[1].position
    await tablet.read(bob.device.user, on_both[0].position)
    sync = await alice.next("read_sync")
    assert (sync.stream.user, sync.up_to) == (bob.device.user, on_both[0].position)
    await alice.quiet()
    await tablet.quiet()


async def a_message_to_oneself_is_one_record(town):
    alice = await town.device().login()
    number = await alice.send(alice.device.user, b"note")
    note = await alice.deliver(b"note")
    assert note.position == await alice.sent(number) and not note.HasField("to")
    await alice.quiet()


async def marks_missed_are_asked_for(town):
    alice, bob = await town.pair()
    position = await alice.sent(await alice.send(bob.device.user, b"seen?"))
    await alice.close()
    delivered = await bob.deliver(b"seen?")
    await bob.read(alice.device.user, delivered.position)
    await bob.quiet()
    alice = await alice.device.login()
    peers = [bob.device.user, 987_654_321]
    await alice.put(ask_receipts=schema.AskReceipts(peers=peers))
    await alice.ticked(bob.device.user, position, READ)
    await alice.quiet()
    assert all(receipt.stream.user == bob.device.user for receipt in alice.receipts)
    assert all(receipt.after == 0 for receipt in alice.receipts)


async def presence_and_typing_are_passed_on(town):
    alice, bob = await town.pair()
    watch = schema.WatchPresence(users=[bob.device.user])
    await alice.put(watch_presence=watch)
    presence = await alice.next("presence")
    assert (presence.user, presence.online) == (bob.device.user, True)
    for stopped in (False, True):
        await bob.put(typing=schema.Typing(user=alice.device.user, stopped=stopped))
        typing = await alice.next("typing")
        assert (typing.user, typing.stopped) == (bob.device.user, stopped)
    await bob.close()
    presence = await alice.next("presence", online=False)
    assert abs(presence.last_seen_ms - time.time() * 1000) < 60_000
    again = await bob.device.login()
    await alice.next("presence", online=True)
    await again.quiet()


async def a_newer_token_is_taken_without_a_word(town):
    alice = await town.device().login()
    renewed = Place.token(alice.device.user, 1, 7200)
    await alice.put(renew=schema.Renew(token=renewed))
    await alice.quiet()
    someone_else = Place.token(alice.device.user + 500, 1, 7200)
    await alice.put(renew=schema.Renew(token=someone_else))
    await alice.goodbye("PARTING_TOKEN_INVALID", 4005)


async def the_newer_session_wins(town):
    older = await town.device().login()
    newer = await older.device.login()
    await older.goodbye("PARTING_REPLACED", 4004)
    await newer.quiet()


async def a_login_that_fails_says_why(town):
    send = schema.ClientFrame(send=schema.Send(client_id=1, user=1, payload=b"x"))
    await fails_to_log_in(town, "PARTING_HELLO_EXPECTED", 4007, send)
    await fails_to_log_in(town, "PARTING_TOKEN_INVALID", 4005, hello("not.a.token"))
    token = town.device().token
    head, tail = token[:-2], token[-2:]
    forged = head + ("AA" if tail != "AA" else "BB")
    await fails_to_log_in(town, "PARTING_TOKEN_INVALID", 4005, hello(forged))
    session = await town.device().login()
    await session.transport.send(hello(session.device.token).SerializeToString())
    await session.goodbye("PARTING_SECOND_HELLO", 4009)


async def a_frame_that_is_none_ends_the_session(town):
    broken = {
        "no body": b"",
        "only an unknown body": b"\x9a\x06\x00",
        "a length beyond the end": b"\x1a\x7f\x08",
        "garbage": b"\xff" * 40,
        "no client_id": schema.ClientFrame(send=schema.Send(user=1)).SerializeToString(),
        "nobody to send to": schema.ClientFrame(send=schema.Send(client_id=1)).SerializeToString(),
        "two bodies": b"".join(
            frame.SerializeToString()
            for frame in (
                schema.ClientFrame(ack=schema.Ack(up_to=1)),
                schema.ClientFrame(ping=schema.Ping(answer=True)),
            )
        ),
        "65 watched": schema.ClientFrame(
            watch_presence=schema.WatchPresence(users=range(1, 66))
        ).SerializeToString(),
    }
    for name, data in broken.items():
        session = await town.device().login()
        await session.transport.send(data)
        try:
            goodbye = await session.goodbye("PARTING_BAD_FRAME", 1002)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        assert goodbye.detail, "a goodbye tells whoever reads logs what was wrong"
    session = await town.device().login()
    await session.transport.send(bytes(68 * KIB + 1))
    await session.goodbye("PARTING_FRAME_TOO_LARGE", 1009)


async def unknown_fields_are_skipped(town):
    alice, bob = await town.pair()
    send = schema.Send(client_id=1, user=bob.device.user, payload=b"new")
    body = send.SerializeToString() + b"\xa2\x06\x02hi"  # field 100 of the body
    envelope = b"\x82\x7d\x03abc"  # field 2000 of the envelope
    await alice.transport.send(envelope + b"\x1a" + bytes([len(body)]) + body)
    await alice.sent(1)
    await bob.deliver(b"new")


# ---------------------------------------------------------------- WebSocket alone


async def the_upgrade_agrees_on_myriad_and_nothing_else(town):
    transport = await WebSocket.connect()  # offers permessage-deflate by default
    assert transport.socket.subprotocol == "myriad.v1"
    assert transport.socket.protocol.extensions == [], "no extension is agreed on"
    await transport.close()
    root = await WebSocket.connect(f"ws://{Place.listen}/?v=1", subprotocols=["x", "myriad.v1"])
    assert root.socket.subprotocol == "myriad.v1"
    await root.close()


async def a_refused_upgrade_says_why(town):
    cases = [
        (404, f"ws://{Place.listen}/elsewhere", {}),
        (400, f"{Place.url}?token=abc", {}),
        (400, Place.url, {"subprotocols": None}),
        (400, Place.url, {"subprotocols": ["chat"]}),
        (403, Place.url, {"origin": "https://elsewhere.example"}),
        (431, Place.url, {"additional_headers": {f"X-{i}": "x" for i in range(32)}}),
        (431, Place.url, {"additional_headers": {"X-Long": "x" * 8 * KIB}}),
    ]
    for status, url, options in cases:
        try:
            await WebSocket.connect(url, **options)
        except websockets.InvalidStatus as refusal:
            response = refusal.response
            assert response.status_code == status, (response.status_code, status, url, options)
            assert len(response.body) > 10, "the text says what to change"
        else:
            raise AssertionError(f"{url} {options} was accepted")


async def a_websocket_ping_gets_its_pong(town):
    session = await town.device().login()
    for data in (b"", b"are you there", bytes(125)):
        pong = await session.transport.socket.ping(data)
        async with asyncio.timeout(10):
            await pong
    await session.quiet()


async def a_fragmented_message_is_one_frame(town):
    alice, bob = await town.pair()
    socket = alice.transport.socket
    payload = pattern(64 * KIB, 2)

    def frame(payload):
        client_id = alice.device.next_id
        alice.device.next_id += 1
        send = schema.Send(client_id=client_id, user=bob.device.user, payload=payload)
        return client_id, schema.ClientFrame(send=send).SerializeToString()

    async def parts(data, size):
        """Pieces, each behind a ping whose pong comes before the next piece leaves."""
        for start in range(0, len(data), size):
            async with asyncio.timeout(10):
                await (await socket.ping(b"%d" % start))
            yield data[start : start + size]

    client_id, data = frame(payload)
    await socket.send(parts(data, 8191))
    await alice.sent(client_id)
    await bob.deliver(payload)
    # One byte at a time, with empty fragments between them.
    client_id, data = frame("schön".encode())
    pieces = [piece for byte in data for piece in (bytes([byte]), b"")]
    await socket.send(pieces)
    await alice.sent(client_id)
    await bob.deliver("schön".encode())
    await alice.quiet()
    await bob.quiet()


async def a_close_is_answered_with_its_code(town):
    for code, reason in ((1000, ""), (1001, "going away"), (4321, "schönen Tag")):
        session = await town.device().login()
        await session.close(code, reason)
        assert session.transport.socket.protocol.close_rcvd_then_sent is False


async def text_is_refused(town):
    session = await town.device().login()
    await session.transport.send("hello")
    await session.goodbye("PARTING_BAD_FRAME", 1003)


# ---------------------------------------------------------------- TCP alone


async def frames_may_come_in_any_pieces(town):
    device = town.device()
    peer = await town.device().login()
    transport = await Tcp.connect(preamble=b"")
    greeting = hello(device.token).SerializeToString()
    # The preamble, the length and the frame a byte at a time; what a turn makes of it differs.
    for byte in b"MYR\x01" + struct.pack("<I", len(greeting)) + greeting:
        transport.writer.write(bytes([byte]))
        await transport.writer.drain()
    session = Session(device, transport)
    await session.next("welcome")
    # And many frames in one write.
    many = b""
    for client_id in range(1, 41):
        send = schema.Send(client_id=client_id, user=peer.device.user, payload=b"many")
        data = schema.ClientFrame(send=send).SerializeToString()
        many += struct.pack("<I", len(data)) + data
    transport.writer.write(many)
    for client_id in range(1, 41):
        await session.sent(client_id)
        await peer.deliver(b"many")


async def what_is_no_preamble_gets_plain_text(town):
    for preamble in (b"MYR\x02", b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
        transport = await Tcp.connect(preamble)
        async with asyncio.timeout(30):
            answer = await transport.reader.read()
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        transport.abort()


BOTH = [
    welcome_says_who_and_what,
    a_message_gets_its_three_ticks,
    a_reply_names_what_it_answers,
    what_waited_comes_in_order,
    a_retry_gets_its_first_answer,
    a_send_cut_off_is_sent_again,
    a_refusal_names_its_reason,
    a_full_window_opens_again,
    a_second_device_joins,
    a_message_to_oneself_is_one_record,
    marks_missed_are_asked_for,
    presence_and_typing_are_passed_on,
    a_newer_token_is_taken_without_a_word,
    the_newer_session_wins,
    a_login_that_fails_says_why,
    a_frame_that_is_none_ends_the_session,
    unknown_fields_are_skipped,
]
OWN = {
    "ws": [
        the_upgrade_agrees_on_myriad_and_nothing_else,
        a_refused_upgrade_says_why,
        a_websocket_ping_gets_its_pong,
        a_fragmented_message_is_one_frame,
        a_close_is_answered_with_its_code,
        text_is_refused,
    ],
    "tcp": [frames_may_come_in_any_pieces, what_is_no_preamble_gets_plain_text],
}


async def main(name, wanted):
    town = Town(TRANSPORTS[name])
    failed = 0
    for scenario in BOTH + OWN[name]:
        if wanted and scenario.__name__ not in wanted:
            continue
        try:
            async with asyncio.timeout(60):
                await scenario(town)
            print(f"python {name} ok {scenario.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"python {name} FAILED {scenario.__name__}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
