// Clients of the socket.io-client package, driven over standard input: a task a line in, its outcome a line out, both
// JSON. Bytes are written as {"$bytes": base64}. See javascript_client.py, which starts it.

"use strict";

const readline = require("node:readline");
const { io } = require("socket.io-client");

const AsyncFunction = (async () => {}).constructor;
const clients = new Map();

// ---- values: JSON, and bytes

const isBytes = (value) => Buffer.isBuffer(value) || value instanceof ArrayBuffer || ArrayBuffer.isView(value);

function mapped(value, change) {
  const found = change(value);
  if (found !== undefined) return found;
  if (Array.isArray(value)) return value.map((item) => mapped(item, change));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapped(item, change)]));
  return value;
}

const written = (value) => mapped(value, (item) => (isBytes(item) ? { $bytes: Buffer.from(item).toString("base64") } : undefined));
const read = (value) => mapped(value, (item) => (item?.$bytes === undefined ? undefined : Buffer.from(item.$bytes, "base64")));

// ---- a client, and what it has heard

class Heard {
  constructor() {
    this.waiting = new Map(); // event: those who wait for it
    this.arrived = new Map(); // event: what nobody waited for
  }

  put(event, values) {
    const next = this.waiting.get(event)?.shift();
    if (next) next(values);
    else this.arrived.set(event, [...(this.arrived.get(event) ?? []), values]);
  }

  // What comes with the next event of this name.
  next(event) {
    const values = this.arrived.get(event)?.shift();
    if (values) return Promise.resolve(values);
    return new Promise((resolve) => this.waiting.set(event, [...(this.waiting.get(event) ?? []), resolve]));
  }
}

function open(url, { msgpack, ...options }) {
  if (msgpack) options.parser = require("socket.io-msgpack-parser");
  const socket = io(url, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100, ...options });
  const heard = new Heard();
  socket.on("connect", () => heard.put("connect", []));
  socket.on("disconnect", (reason) => heard.put("disconnect", [reason]));
  socket.on("connect_error", (error) => heard.put("connect_error", [error.message, error.data ?? null]));
  socket.io.on("reconnect", (attempt) => heard.put("reconnect", [attempt]));
  socket.onAny((event, ...values) => heard.put(event, values.filter((value) => typeof value !== "function")));
  return { socket, next: (event) => heard.next(event) };
}

const tasks = {
  open: ({ client, url, options }) => void clients.set(client, open(url, read(options))),
  run({ client, script, values }) {
    const { socket, next } = clients.get(client);
    return new AsyncFunction("socket", "next", "io", "...values", script)(socket, next, io, ...read(values));
  },
  close({ client }) {
    clients.get(client)?.socket.disconnect(); // twice is fine
    clients.delete(client);
  },
};

async function perform(task) {
  try {
    return { value: written((await tasks[task.do](task)) ?? null) };
  } catch (error) {
    return { error: String(error?.message ?? error) };
  }
}

readline
  .createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const task = JSON.parse(line);
    process.stdout.write(JSON.stringify({ number: task.number, ...(await perform(task)) }) + "\n");
  })
  .on("close", () => process.exit());
