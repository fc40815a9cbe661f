// A client of the chat protocol, written from docs/protocol.md and the schema alone.
//
// What outlives a connection (numbers, unanswered messages, cursor) is a Device; a connection
// that got its Welcome is a Session. Sessions check on the way what the protocol promises about
// every frame, so that scenarios only say what is special to them. Every 64-bit value is a
// BigInt.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import path from "node:path";

const packages = path.join(process.env.INTEROP_NODE, "packages.mjs");
export const { protobuf, schema, WebSocket } = await import(pathToFileURL(packages));
export const { Mark, Parting, Refusal } = schema;
const { create, fromBinary, toBinary } = protobuf;

/** Milliseconds until something that should come is said to be missing. */
const PATIENCE = 30_000;

/** Where the server is, handed in by the test in the environment. */
export const listen = process.env.INTEROP_LISTEN;
export const url = `ws://${listen}/v1/chat`;

/** A token as `myriad token` mints it. */
export function mint(user, device = 1, seconds = 3600) {
  const command = ["token", "--auth-secret-file", process.env.INTEROP_SECRET_FILE];
  command.push("--user", `${user}`, "--device", `${device}`, "--ttl-s", `${seconds}`);
  return execFileSync(process.env.INTEROP_MYRIAD, command, { encoding: "utf8" }).trim();
}

/** The bytes of a frame, its body named as in the schema (askReceipts for ask_receipts). */
export function encode(kind, fields) {
  const frame = create(schema.ClientFrameSchema, { body: { case: kind, value: fields } });
  return toBinary(schema.ClientFrameSchema, frame);
}

/** The recipient of a Send or Typing, or the stream of a Read. */
export const user = (number) => ({ case: "user", value: number });

export function text(payload) {
  return Buffer.from(payload).toString("utf8");
}

/** Bytes that show when some are missing or change places. */
export function pattern(length, seed) {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) {
    bytes[index] = (index * 31 + (index >> 8) + seed) & 255;
  }
  return bytes;
}

/** Rejects when a promise takes longer than anybody waits. */
export async function patient(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} in ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A WebSocket of the `ws` package as a queue of what comes. */
export class Socket {
  #come = [];
  #asked = [];

  static async connect(address = url, protocols = ["myriad.v1"], options = {}) {
    const self = new Socket();
    const socket = new WebSocket(address, protocols, options);
    self.socket = socket;
    socket.on("message", (data, isBinary) => self.#push({ data, isBinary }));
    socket.on("close", (code) => self.#push({ code }));
    await patient(
      new Promise((resolve, reject) => {
        socket.on("open", resolve);
        socket.on("error", reject);
        socket.on("unexpected-response", (_request, response) => {
          response.resume();
          reject(Object.assign(new Error("refused"), { status: response.statusCode }));
        });
      }),
      "open",
    );
    return self;
  }

  #push(event) {
    const asked = this.#asked.shift();
    if (asked) asked(event);
    else this.#come.push(event);
  }

  /** The next message `{data}`, or the end `{code}`. */
  async receive() {
    const come = this.#come.shift();
    if (come) return come;
    return patient(new Promise((resolve) => this.#asked.push(resolve)), "frame");
  }

  send(data) {
    this.socket.send(data);
  }

  /** Sends a ping and waits for its pong. */
  async ping(data) {
    const pong = new Promise((resolve) => this.socket.once("pong", resolve));
    this.socket.ping(data);
    assert.equal(text(await patient(pong, "pong")), text(data), "a pong brings the bytes back");
  }

  /** Sends a message as fragments of at most `size` bytes, a ping and its pong before each. */
  async sendInParts(data, size) {
    for (let start = 0; start < data.length; start += size) {
      await this.ping(Buffer.from(`${start}`));
      const fin = start + size >= data.length;
      this.socket.send(data.subarray(start, start + size), { fin, binary: true });
    }
  }

  /** Closes, and gives the code the server answered with. */
  async close(code, reason) {
    this.socket.close(code, reason);
    for (;;) {
      const event = await this.receive();
      if (event.code !== undefined) return event.code;
    }
  }
}

/** What a device of a user keeps, whatever happens to its connections. */
export class Device {
  nextId = 1n;
  base = 0n;
  answered = new Set();
  outbox = new Map();
  acked = 0n;

  constructor(user, device = 1) {
    this.user = user;
    this.device = device;
    this.token = mint(user, device);
  }

  /** All up to base, and base + 1 + i where bit i of map is set. */
  confirmed() {
    while (this.answered.has(this.base + 1n)) this.base += 1n;
    let map = 0n;
    for (const id of this.answered) {
      const bit = id - this.base - 1n;
      if (bit >= 0n && bit < 64n) map |= 1n << bit;
    }
    return { base: this.base, map };
  }

  answer(clientId) {
    this.answered.add(clientId);
    this.outbox.delete(clientId);
  }

  /** A session, after its Welcome. */
  async login() {
    const session = new Session(this, await Socket.connect());
    const resumeAfter = this.acked;
    const confirmed = this.confirmed();
    session.put("hello", { token: this.token, resumeAfter, confirmed, active: true });
    const welcome = await session.next("welcome");
    assert.deepEqual([welcome.user, welcome.device], [this.user, this.device]);
    if (welcome.nextClientId > this.nextId) this.nextId = welcome.nextClientId;
    if (!this.outbox.size && !this.answered.size) this.base = this.nextId - 1n;
    session.welcome = welcome;
    return session;
  }
}

/** A connection, from its Hello on. */
export class Session {
  #waiting = [];
  #deliveredUpTo = 0n;
  receipts = [];

  constructor(device, socket) {
    this.device = device;
    this.socket = socket;
  }

  put(kind, fields) {
    this.socket.send(encode(kind, fields));
  }

  /** The next frame, judged by what holds for all of its kind, or the end of the connection. */
  async frame() {
    const event = await this.socket.receive();
    if (event.code !== undefined) return { kind: "end", body: event };
    assert.ok(event.isBinary, "the server sends binary messages only");
    const { body } = fromBinary(schema.ServerFrameSchema, event.data);
    const { case: kind, value } = body;
    assert.ok(kind, `a frame without a known body: ${event.data.toString("hex")}`);
    if (kind === "deliver") {
      assert.equal(typeof value.position, "bigint");
      assert.ok(value.position > this.#deliveredUpTo, "deliveries come in order, and once");
      assert.ok(value.id.sender && value.id.device && value.id.clientId && value.timeMs);
      this.#deliveredUpTo = value.position;
    } else if (kind === "receipt") {
      assert.ok(value.mark === Mark.HAS || value.mark === Mark.READ);
      assert.ok(value.after < value.upTo);
      this.receipts.push(value);
    } else if (kind === "sent" || (kind === "refused" && !value.retriable)) {
      this.device.answer(value.clientId);
    }
    return { kind, body: value };
  }

  /** Lays a frame aside for whoever asks for it; receipts have a place of their own. */
  #keep(frame) {
    if (frame.kind !== "receipt") this.#waiting.push(frame);
  }

  /** The next frame that fits; others wait. A goodbye or the end is an error at once. */
  async #find(what, fits) {
    const index = this.#waiting.findIndex(fits);
    if (index >= 0) return this.#waiting.splice(index, 1)[0];
    for (;;) {
      const frame = await this.frame();
      if (fits(frame)) return frame;
      const over = frame.kind === "goodbye" || frame.kind === "end";
      if (over) assert.fail(`waited for ${what}, got ${show(frame)}`);
      this.#keep(frame);
    }
  }

  async next(kind, fields = {}) {
    const wanted = Object.entries(fields);
    const fits = (frame) =>
      frame.kind === kind && wanted.every(([name, value]) => frame.body[name] === value);
    return (await this.#find(`${kind} ${show(fields)}`, fits)).body;
  }

  /** Sends a new message to a user, and gives its number. */
  send(to, payload, more = {}) {
    const clientId = this.device.nextId++;
    this.device.outbox.set(clientId, { clientId, to: user(to), payload, ...more });
    this.sendAgain(clientId);
    return clientId;
  }

  sendAgain(clientId) {
    const send = this.device.outbox.get(clientId);
    this.put("send", { ...send, confirmed: this.device.confirmed() });
  }

  async #answerOf(clientId) {
    const fits = ({ kind, body }) =>
      (kind === "sent" || kind === "refused") && body.clientId === clientId;
    return this.#find(`answer to ${clientId}`, fits);
  }

  /** The position of a message, once it is durable. */
  async sent(clientId) {
    const frame = await this.#answerOf(clientId);
    assert.equal(frame.kind, "sent", show(frame));
    assert.ok(frame.body.position > 2n ** 53n, "an epoch above the sequence: more than a double");
    return frame.body.position;
  }

  async refused(clientId, reason, retriable = false) {
    const frame = await this.#answerOf(clientId);
    assert.equal(frame.kind, "refused", show(frame));
    assert.equal(Refusal[frame.body.reason], reason);
    assert.equal(frame.body.retriable, retriable);
    return frame.body;
  }

  /** Waits until a receipt says that the peer has, or has read, what is at a position. */
  async ticked(peer, position, mark) {
    const carries = (receipt) =>
      receipt.stream.of.value === peer &&
      receipt.after < position &&
      position <= receipt.upTo &&
      receipt.mark >= mark; // what is read is also had
    while (!this.receipts.some(carries)) {
      const frame = await this.frame();
      if (frame.kind === "end") assert.fail(`no receipt up to ${position}: ${show(frame)}`);
      this.#keep(frame);
    }
  }

  /** The next message from somebody, which has this payload, acked. */
  async deliver(payload) {
    const body = await this.next("deliver", { to: undefined });
    assert.ok(Buffer.from(payload).equals(body.payload), `delivered ${show(body).slice(0, 200)}`);
    this.ack(body.position);
    return body;
  }

  /** The copy of what another device of this user sent, whatever else comes before it. */
  async copy(payload, to) {
    const fits = ({ kind, body }) => kind === "deliver" && body.to?.of.value === to;
    const { body } = await this.#find(`copy to ${to}`, fits);
    assert.ok(Buffer.from(payload).equals(body.payload));
    this.ack(body.position);
    return body;
  }

  ack(position) {
    if (position > this.device.acked) this.device.acked = position;
    this.put("ack", { upTo: position });
  }

  read(peer, position) {
    this.put("read", { stream: { of: user(peer) }, upTo: position });
  }

  /** Says Ping, and checks that before its Pong nothing came that nobody asked for. */
  async quiet(...allowed) {
    this.put("ping", { answer: true, active: true });
    await this.next("pong");
    const left = this.#waiting.filter(({ kind }) => !allowed.includes(kind));
    assert.equal(left.length, 0, `nobody expected ${show(left)}`);
  }

  /** The server's last frame, and the close code after it. */
  async goodbye(reason, code) {
    for (;;) {
      const frame = await this.frame();
      assert.notEqual(frame.kind, "end", `closed with ${frame.body.code}, without a goodbye`);
      if (frame.kind !== "goodbye") continue;
      assert.equal(Parting[frame.body.reason], reason);
      const end = await this.frame();
      assert.deepEqual([end.kind, end.body.code], ["end", code], show(end));
      return frame.body;
    }
  }

  /** Ends the connection; the server answers with the same code. */
  async close(code = 1000, reason = "") {
    assert.equal(await this.socket.close(code, reason), code);
  }

  /** Ends the connection without a word. */
  abort() {
    this.socket.socket.terminate();
  }
}

/** For error messages: JSON has no BigInt. */
export function show(value) {
  const plain = (_, item) => {
    if (typeof item === "bigint") return `${item}`;
    return item instanceof Uint8Array ? Buffer.from(item).toString("hex").slice(0, 80) : item;
  };
  return JSON.stringify(value, plain);
}
