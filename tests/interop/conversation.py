"""One of two people in a conversation; the other may be a program in any language.

    conversation.py first|second OWN_USER PEER_USER

There is no channel between the two but the chat: whoever plays `first` waits until the other is
online and then speaks; `second` answers. tests/interop/conversation.mjs plays the same.
"""

import asyncio
import sys

import myriad_pb2 as schema
from client import HAS, READ, Device, WebSocket

LARGE = 64 * 1024
BURST = 100
IN_FLIGHT = 32
AWAY_KIND = 9
REPLY = 1


def pattern(length, seed):
    return bytes((index * 31 + (index >> 8) + seed) & 255 for index in range(length))


def greeting(who):
    return f"Schöne Grüße von {who} 🙂 你好".encode()


async def pieces(socket, data, size=10_000):
    """Fragments of a message, a ping and its pong before each."""
    for start in range(0, len(data), size):
        async with asyncio.timeout(30):
            await (await socket.ping(b"between"))
        yield data[start : start + size]


async def send_large(session, to, payload):
    """Sends a message as fragments with control frames between them."""
    number = session.device.next_id
    session.device.next_id += 1
    send = schema.Send(
        client_id=number, user=to, payload=payload, confirmed=session.device.confirmed()
    )
    socket = session.transport.socket
    await socket.send(pieces(socket, schema.ClientFrame(send=send).SerializeToString()))
    return number


async def say(session, peer, payload, **more):
    """Sends, and waits for all three ticks."""
    position = await session.sent(await session.send(peer, payload, **more))
    await session.ticked(peer, position, HAS)
    await session.ticked(peer, position, READ)


async def hear(session, peer, payload, **more):
    """Takes a message, acks it and says that it was read."""
    delivered = await session.deliver(payload)
    assert delivered.id.sender == peer, delivered.id
    for name, value in more.items():
        assert getattr(delivered, name) == value, f"{name}: {getattr(delivered, name)}"
    await session.read(peer, delivered.position)
    return delivered


async def first(session, peer):
    await until_online(session, peer)
    await session.put(typing=schema.Typing(user=peer))
    await say(session, peer, greeting("first"), kind=3)
    reply = await hear(session, peer, greeting("second"), kind=4)
    assert reply.relation.kind == REPLY and reply.relation.target.sender == session.device.user
    await say(session, peer, b"")
    await hear(session, peer, b"")
    number = await send_large(session, peer, pattern(LARGE, 1))
    await session.ticked(peer, await session.sent(number), READ)
    await hear(session, peer, pattern(LARGE, 2))
    await burst(session, peer)
    await hear(session, peer, b"device 1 is away", kind=AWAY_KIND)
    numbers = [await session.send(peer, b"offline %d" % index) for index in range(5)]
    positions = [await session.sent(number) for number in numbers]
    assert positions == sorted(positions)
    await hear(session, peer, b"device 1 is back", kind=AWAY_KIND)
    await session.ticked(peer, positions[-1], READ)
    await say(session, peer, b"bye")
    await session.next("presence", user=peer, online=False)


async def until_online(session, peer):
    """Asks again and again: somebody who never logged in is answered once, but not watched."""
    while True:
        await session.put(watch_presence=schema.WatchPresence(users=[peer]))
        if (await session.next("presence", user=peer)).online:
            return
        await asyncio.sleep(0.5)


async def burst(session, peer):
    """Many messages, some of them in flight together."""
    numbers = []
    for index in range(BURST):
        if index >= IN_FLIGHT:
            await session.sent(numbers[index - IN_FLIGHT])
        numbers.append(await session.send(peer, b"burst %d" % index))
    for number in numbers[-IN_FLIGHT:]:
        position = await session.sent(number)
    await session.ticked(peer, position, READ)


async def second(session, peer):
    await session.next("typing", user=peer, stopped=False)
    heard = await hear(session, peer, greeting("first"), kind=3)
    relation = schema.Relation(kind=REPLY, target=heard.id)
    await say(session, peer, greeting("second"), kind=4, relation=relation)
    await hear(session, peer, b"")
    await say(session, peer, b"")
    await hear(session, peer, pattern(LARGE, 1))
    number = await send_large(session, peer, pattern(LARGE, 2))
    await session.ticked(peer, await session.sent(number), READ)
    for index in range(BURST):
        await hear(session, peer, b"burst %d" % index)
    await session.quiet()
    return await away_and_back(session, peer)


async def away_and_back(session, peer):
    """Device 1 leaves, device 2 sees what comes meanwhile, and device 1 gets it later."""
    me = session.device
    tablet = await Device(me.user, 2).login()
    await session.next("device_event", device=2, added=True)
    await session.close()
    away = await tablet.sent(await tablet.send(peer, b"device 1 is away", kind=AWAY_KIND))
    for index in range(5):
        delivered = await tablet.deliver(b"offline %d" % index)
    session = await me.login()
    copy = await session.copy(b"device 1 is away", peer)
    assert (copy.to_position, copy.id.device) == (away, 2)
    for index in range(5):
        late = await session.deliver(b"offline %d" % index)
    assert late.position == delivered.position and late.id == delivered.id
    await session.read(peer, late.position)
    sync = await tablet.next("read_sync")
    assert (sync.stream.user, sync.up_to) == (peer, late.position)
    await session.sent(await session.send(peer, b"device 1 is back", kind=AWAY_KIND))
    await tablet.close(1001, "tablet off")
    await hear(session, peer, b"bye")
    return session


async def main(role, own, peer):
    session = await Device(own, 1, WebSocket).login()
    if role == "first":
        await first(session, peer)
    else:
        session = await second(session, peer)
    await session.quiet("presence")  # may be told more often than it changes
    await session.close(4000 if role == "first" else 1000, "schönen Tag")
    print(f"python {role}: the conversation went well")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
