// One of two people in a conversation; the other may be a program in any language.
//
//     node conversation.mjs first|second OWN_USER PEER_USER
//
// There is no channel between the two but the chat: whoever plays `first` waits until the other
// is online and then speaks; `second` answers. tests/interop/conversation.py plays the same.

import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { Device, encode, Mark, pattern, user } from "./client.mjs";

const LARGE = 64 * 1024;
const BURST = 100;
const IN_FLIGHT = 32;
const AWAY_KIND = 9;
const REPLY = 1;

const bytes = (words) => Buffer.from(words, "utf8");
const greeting = (who) => bytes(`Schöne Grüße von ${who} 🙂 你好`);

/** Sends a message as fragments with control frames between them. */
async function sendLarge(session, to, payload) {
  const clientId = session.device.nextId++;
  const confirmed = session.device.confirmed();
  const frame = encode("send", { clientId, to: user(to), payload, confirmed });
  await session.socket.sendInParts(frame, 10_000);
  return clientId;
}

/** Sends, and waits for all three ticks. */
async function say(session, peer, payload, more) {
  const position = await session.sent(session.send(peer, payload, more));
  await session.ticked(peer, position, Mark.HAS);
  await session.ticked(peer, position, Mark.READ);
}

/** Takes a message, acks it and says that it was read. */
async function hear(session, peer, payload, kind = 0) {
  const delivered = await session.deliver(payload);
  assert.equal(delivered.id.sender, peer);
  assert.equal(delivered.kind, kind);
  session.read(peer, delivered.position);
  return delivered;
}

async function first(session, peer) {
  await untilOnline(session, peer);
  session.put("typing", { to: user(peer) });
  await say(session, peer, greeting("first"), { kind: 3 });
  const reply = await hear(session, peer, greeting("second"), 4);
  assert.equal(reply.relation.kind, REPLY);
  assert.equal(reply.relation.target.sender, session.device.user);
  await say(session, peer, bytes(""));
  await hear(session, peer, bytes(""));
  const large = await sendLarge(session, peer, pattern(LARGE, 1));
  await session.ticked(peer, await session.sent(large), Mark.READ);
  await hear(session, peer, pattern(LARGE, 2));
  await burst(session, peer);
  await hear(session, peer, bytes("device 1 is away"), AWAY_KIND);
  const numbers = [0, 1, 2, 3, 4].map((index) => session.send(peer, bytes(`offline ${index}`)));
  let last = 0n;
  for (const number of numbers) {
    const position = await session.sent(number);
    assert.ok(position > last);
    last = position;
  }
  await hear(session, peer, bytes("device 1 is back"), AWAY_KIND);
  await session.ticked(peer, last, Mark.READ);
  await say(session, peer, bytes("bye"));
  await session.next("presence", { user: peer, online: false });
}

/** Asks again and again: somebody who never logged in is answered once, but not watched. */
async function untilOnline(session, peer) {
  for (;;) {
    session.put("watchPresence", { users: [peer] });
    if ((await session.next("presence", { user: peer })).online) return;
    await setTimeout(500);
  }
}

/** Many messages, some of them in flight together. */
async function burst(session, peer) {
  const numbers = [];
  for (let index = 0; index < BURST; index++) {
    if (index >= IN_FLIGHT) await session.sent(numbers[index - IN_FLIGHT]);
    numbers.push(session.send(peer, bytes(`burst ${index}`)));
  }
  let position;
  for (const number of numbers.slice(-IN_FLIGHT)) position = await session.sent(number);
  await session.ticked(peer, position, Mark.READ);
}

async function second(session, peer) {
  await session.next("typing", { user: peer, stopped: false });
  const heard = await hear(session, peer, greeting("first"), 3);
  const relation = { kind: REPLY, target: heard.id };
  await say(session, peer, greeting("second"), { kind: 4, relation });
  await hear(session, peer, bytes(""));
  await say(session, peer, bytes(""));
  await hear(session, peer, pattern(LARGE, 1));
  const large = await sendLarge(session, peer, pattern(LARGE, 2));
  await session.ticked(peer, await session.sent(large), Mark.READ);
  for (let index = 0; index < BURST; index++) await hear(session, peer, bytes(`burst ${index}`));
  await session.quiet();
  return awayAndBack(session, peer);
}

/** Device 1 leaves, device 2 sees what comes meanwhile, and device 1 gets it later. */
async function awayAndBack(session, peer) {
  const me = session.device;
  const tablet = await new Device(me.user, 2).login();
  await session.next("deviceEvent", { device: 2, added: true });
  await session.close();
  const number = tablet.send(peer, bytes("device 1 is away"), { kind: AWAY_KIND });
  const away = await tablet.sent(number);
  let delivered;
  for (let index = 0; index < 5; index++) {
    delivered = await tablet.deliver(bytes(`offline ${index}`));
  }
  const again = await me.login();
  const copy = await again.copy(bytes("device 1 is away"), peer);
  assert.deepEqual([copy.toPosition, copy.id.device], [away, 2]);
  let late;
  for (let index = 0; index < 5; index++) late = await again.deliver(bytes(`offline ${index}`));
  assert.equal(late.position, delivered.position);
  assert.equal(late.id.clientId, delivered.id.clientId);
  again.read(peer, late.position);
  const sync = await tablet.next("readSync");
  assert.deepEqual([sync.stream.of.value, sync.upTo], [peer, late.position]);
  await again.sent(again.send(peer, bytes("device 1 is back"), { kind: AWAY_KIND }));
  await tablet.close(1001, "tablet off");
  await hear(again, peer, bytes("bye"));
  return again;
}

const [role, own, peer] = process.argv.slice(2);
let session = await new Device(BigInt(own)).login();
if (role === "first") await first(session, BigInt(peer));
else session = await second(session, BigInt(peer));
await session.quiet("presence"); // may be told more often than it changes
await session.close(role === "first" ? 4000 : 1000, "schönen Tag");
console.log(`node ${role}: the conversation went well`);
