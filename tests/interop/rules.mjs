// Scenarios of docs/protocol.md, played by one process as all the people in them.
//
//     node rules.mjs [NAME ...]
//
// Each scenario has users of its own. Numbers of users lie above 2^63, so that whoever cuts them
// anywhere on the way, or makes doubles of them, is found out.

import assert from "node:assert/strict";
import {
  Device, encode, listen, Mark, mint, pattern, Session, Socket, text, url, user,
} from "./client.mjs";

const KIB = 1024;
const STRANGER = 987_654_321n;
let lastUser = 2n ** 63n + 2n ** 53n + 5001n;

const bytes = (words) => Buffer.from(words, "utf8");
const someone = () => new Device(lastUser++);
const pair = async () => [await someone().login(), await someone().login()];

async function welcomeSaysWhoAndWhat() {
  const session = await someone().login();
  const { welcome } = session;
  assert.equal(welcome.nextClientId, 1n);
  assert.ok(welcome.heartbeatMs >= 1000);
  assert.ok(Math.abs(Number(welcome.serverTimeMs) - Date.now()) < 60_000);
  const { $typeName, ...limits } = welcome.limits;
  assert.deepEqual(limits, {
    payloadBytesMax: 64 * KIB,
    unackedMessagesMax: 64,
    unackedBytesMax: 64 * KIB,
    unconfirmedIdsMax: 64,
    watchedUsersMax: 64,
    askedPeersMax: 256,
  }, $typeName);
  await session.quiet();
  await session.close();
}

async function aMessageGetsItsThreeTicks() {
  const [alice, bob] = await pair();
  const peer = bob.device.user;
  const payloads = [bytes("Grüße aus Köln, 你好 🙂"), bytes(""), pattern(64 * KIB, 3)];
  for (const payload of payloads) {
    const clientId = alice.send(peer, payload, { kind: 7 });
    const delivered = await bob.next("deliver");
    assert.ok(payload.equals(delivered.payload));
    const { sender, device, clientId: theirs } = delivered.id;
    assert.deepEqual([sender, device, theirs], [alice.device.user, 1, clientId]);
    assert.deepEqual([delivered.kind, delivered.stream, delivered.to], [7, undefined, undefined]);
    const position = await alice.sent(clientId);
    assert.equal(position, delivered.position, "the position is that in the inbox of bob");
    assert.equal(alice.receipts.length, 0, "nobody acked yet");
    bob.ack(delivered.position);
    await alice.ticked(peer, position, Mark.HAS);
    assert.ok(alice.receipts.every(({ mark }) => mark === Mark.HAS), "nobody read yet");
    bob.read(alice.device.user, delivered.position);
    await alice.ticked(peer, position, Mark.READ);
    alice.receipts = [];
  }
  await alice.quiet();
  await bob.quiet();
}

async function whatWaitedComesInOrder() {
  const [alice, bob] = await pair();
  await bob.close();
  for (let index = 0; index < 150; index++) {
    // Waiting for each answer takes one sync a message; fifty at a time take few.
    alice.send(bob.device.user, bytes(`${index}`));
    if (index % 50 === 49) await answersOf(alice, index - 48, index + 1);
  }
  const again = await bob.device.login();
  const got = [];
  for (let index = 0; index < 64; index++) got.push(await again.next("deliver"));
  await again.quiet(); // un-acked, 64 come and no more
  again.ack(got.at(-1).position);
  for (let index = 64; index < 100; index++) got.push(await again.deliver(bytes(`${index}`)));
  again.abort();
  const third = await bob.device.login();
  for (let index = 100; index < 150; index++) got.push(await third.deliver(bytes(`${index}`)));
  assert.deepEqual(got.map(({ payload }) => text(payload)), got.map((_, index) => `${index}`));
  await third.quiet();
  await alice.ticked(bob.device.user, got.at(-1).position, Mark.HAS);
}

async function answersOf(session, first, last) {
  for (let clientId = first; clientId <= last; clientId++) await session.sent(BigInt(clientId));
}

async function aRetryGetsItsFirstAnswer() {
  const [alice, bob] = await pair();
  const peer = bob.device.user;
  const clientId = alice.send(peer, bytes("once"));
  const message = alice.device.outbox.get(clientId);
  const position = await alice.sent(clientId);
  assert.equal((await bob.deliver(bytes("once"))).position, position);
  // The answer is lost: a device that never saw it comes back.
  alice.abort();
  alice.device.answered.clear();
  alice.device.outbox.set(clientId, message);
  const again = await alice.device.login();
  assert.equal(again.welcome.nextClientId, clientId + 1n);
  again.sendAgain(clientId);
  assert.equal(await again.sent(clientId), position);
  // The same number for something else, and after its answer was confirmed.
  again.put("send", { clientId, to: user(peer), payload: bytes("other") });
  const reused = await again.refused(clientId, "ID_REUSED");
  assert.equal(reused.nextClientId, clientId + 1n);
  again.put("ping", { confirmed: again.device.confirmed() });
  again.put("send", message);
  const stale = await again.refused(clientId, "STALE_ID");
  assert.equal(stale.nextClientId, clientId + 1n);
  // And cut off before any answer.
  const cut = again.send(peer, bytes("cut"));
  again.abort();
  const last = await again.device.login();
  last.sendAgain(cut);
  assert.equal(await last.sent(cut), (await bob.deliver(bytes("cut"))).position);
  await bob.quiet();
}

async function aRefusalNamesItsReason() {
  const [alice, bob] = await pair();
  const peer = bob.device.user;
  await alice.refused(alice.send(STRANGER, bytes("hello?")), "UNKNOWN_USER");
  await alice.refused(alice.send(peer, Buffer.alloc(64 * KIB + 1)), "PAYLOAD_TOO_LARGE");
  const toGroup = alice.send(peer, bytes("to all"), { to: { case: "group", value: 1n } });
  await alice.refused(toGroup, "NOT_MEMBER");
  await alice.sent(alice.send(peer, bytes("to you")));
  await bob.deliver(bytes("to you"));
  const far = alice.device.base + 70n;
  const farSend = { clientId: far, to: user(peer), payload: bytes("far") };
  alice.put("send", farSend);
  await alice.refused(far, "WINDOW_FULL", true);
  alice.put("send", { ...farSend, confirmed: { base: alice.device.base + 10n } });
  await alice.sent(far);
  await bob.deliver(bytes("far"));
  await bob.quiet();
}

async function aSecondDeviceJoins() {
  const [alice, bob] = await pair();
  const peer = bob.device.user;
  const tablet = await new Device(alice.device.user, 2).login();
  await alice.next("deviceEvent", { device: 2, added: true });
  const position = await alice.sent(alice.send(peer, bytes("from the phone")));
  const copy = await tablet.copy(bytes("from the phone"), peer);
  assert.deepEqual([copy.toPosition, copy.id.device], [position, 1]);
  const theirs = await bob.deliver(bytes("from the phone"));
  bob.read(alice.device.user, theirs.position);
  await alice.ticked(peer, position, Mark.READ);
  await tablet.ticked(peer, position, Mark.READ);
  await bob.sent(bob.send(alice.device.user, bytes("to both")));
  const onTablet = await tablet.deliver(bytes("to both"));
  assert.equal((await alice.deliver(bytes("to both"))).position, onTablet.position);
  tablet.read(peer, onTablet.position);
  const sync = await alice.next("readSync");
  assert.deepEqual([sync.stream.of.value, sync.upTo], [peer, onTablet.position]);
  await tablet.quiet();
}

async function aMessageToOneselfIsOneRecord() {
  const alice = await someone().login();
  const clientId = alice.send(alice.device.user, bytes("note"));
  assert.equal((await alice.deliver(bytes("note"))).position, await alice.sent(clientId));
  await alice.quiet();
}

async function marksMissedAreAskedFor() {
  const [alice, bob] = await pair();
  const peer = bob.device.user;
  const position = await alice.sent(alice.send(peer, bytes("seen?")));
  await alice.close();
  const delivered = await bob.deliver(bytes("seen?"));
  bob.read(alice.device.user, delivered.position);
  await bob.quiet();
  const again = await alice.device.login();
  again.put("askReceipts", { peers: [peer, STRANGER] });
  await again.ticked(peer, position, Mark.READ);
  await again.quiet();
  assert.ok(again.receipts.every(({ after, stream }) => after === 0n && stream.of.value === peer));
}

async function presenceAndTypingArePassedOn() {
  const [alice, bob] = await pair();
  alice.put("watchPresence", { users: [bob.device.user] });
  await alice.next("presence", { user: bob.device.user, online: true });
  for (const stopped of [false, true]) {
    bob.put("typing", { to: user(alice.device.user), stopped });
    await alice.next("typing", { user: bob.device.user, stopped });
  }
  await bob.close();
  const { lastSeenMs } = await alice.next("presence", { online: false });
  assert.ok(Math.abs(Number(lastSeenMs) - Date.now()) < 60_000);
}

async function aGoodbyeSaysWhy() {
  const cases = [
    ["HELLO_EXPECTED", 4007, false, encode("ping", {})],
    ["TOKEN_INVALID", 4005, false, encode("hello", { token: "not.a.token" })],
    ["SECOND_HELLO", 4009, true, encode("hello", { token: mint(lastUser) })],
    ["TOKEN_INVALID", 4005, true, encode("renew", { token: mint(lastUser + 1000n) })],
    ["BAD_FRAME", 1002, true, Buffer.alloc(0)],
    ["BAD_FRAME", 1002, true, Buffer.alloc(40, 0xff)],
    ["BAD_FRAME", 1002, true, encode("send", { to: user(1n) })],
    ["BAD_FRAME", 1003, true, "a text message"],
    ["FRAME_TOO_LARGE", 1009, true, Buffer.alloc(68 * KIB + 1)],
  ];
  for (const [reason, code, loggedIn, data] of cases) {
    const device = someone();
    const session = loggedIn ? await device.login() : new Session(device, await Socket.connect());
    session.socket.send(data);
    assert.ok((await session.goodbye(reason, code)).detail);
  }
  const older = await someone().login();
  const newer = await older.device.login();
  await older.goodbye("REPLACED", 4004);
  newer.put("renew", { token: mint(newer.device.user, 1, 7200) });
  await newer.quiet();
}

async function theUpgradeAgreesOnMyriadAndNothingElse() {
  const offersDeflate = await Socket.connect(url, ["other", "myriad.v1"]);
  assert.equal(offersDeflate.socket.protocol, "myriad.v1");
  assert.equal(offersDeflate.socket.extensions, "", "no extension is agreed on");
  assert.equal(await offersDeflate.close(1000), 1000);
  const refusals = [
    [404, `ws://${listen}/elsewhere`, ["myriad.v1"], {}],
    [400, `${url}?token=abc`, ["myriad.v1"], {}],
    [400, url, [], {}],
    [400, url, ["chat"], {}],
    [403, url, ["myriad.v1"], { origin: "https://elsewhere.example" }],
    [426, url, ["myriad.v1"], { protocolVersion: 8 }],
  ];
  for (const [status, address, protocols, options] of refusals) {
    await assert.rejects(Socket.connect(address, protocols, options), { status });
  }
}

async function aFragmentedMessageIsOneFrame() {
  const [alice, bob] = await pair();
  const { socket, device } = alice;
  await socket.ping(Buffer.alloc(125, "x"));
  const message = (payload) => {
    const clientId = device.nextId++;
    return [clientId, encode("send", { clientId, to: user(bob.device.user), payload })];
  };
  const [large, largeFrame] = message(pattern(64 * KIB, 4));
  await socket.sendInParts(largeFrame, 8191);
  await alice.sent(large);
  await bob.deliver(pattern(64 * KIB, 4));
  const [small, smallFrame] = message(bytes("schön"));
  await socket.sendInParts(smallFrame, 1);
  await alice.sent(small);
  await bob.deliver(bytes("schön"));
  await alice.quiet();
  await bob.quiet();
}

async function aCloseIsAnsweredWithItsCode() {
  for (const [code, reason] of [[1000, ""], [1001, "going away"], [4321, "schönen Tag"]]) {
    await (await someone().login()).close(code, reason);
  }
}

const SCENARIOS = [
  welcomeSaysWhoAndWhat,
  aMessageGetsItsThreeTicks,
  whatWaitedComesInOrder,
  aRetryGetsItsFirstAnswer,
  aRefusalNamesItsReason,
  aSecondDeviceJoins,
  aMessageToOneselfIsOneRecord,
  marksMissedAreAskedFor,
  presenceAndTypingArePassedOn,
  aGoodbyeSaysWhy,
  theUpgradeAgreesOnMyriadAndNothingElse,
  aFragmentedMessageIsOneFrame,
  aCloseIsAnsweredWithItsCode,
];

const wanted = process.argv.slice(2);
let failed = 0;
for (const scenario of SCENARIOS) {
  if (wanted.length && !wanted.includes(scenario.name)) continue;
  try {
    await scenario();
    console.log(`node ok ${scenario.name}`);
  } catch (error) {
    failed += 1;
    console.log(`node FAILED ${scenario.name}`);
    console.error(error);
  }
}
// Sessions that scenarios left open would keep the process alive.
process.exit(failed ? 1 : 0);
