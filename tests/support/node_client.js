// A client of the ws package, driven over standard input: a command a line in, an event a line out, both JSON.
// Bytes are written as base64. See websocket_clients.py, which starts it.

"use strict";

const readline = require("node:readline");
const WebSocket = require("ws");

const [url, subprotocols, authority] = process.argv.slice(2);
const ca = authority ? require("node:fs").readFileSync(authority) : undefined;
const socket = new WebSocket(url, JSON.parse(subprotocols), { ca, perMessageDeflate: false });

const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const base64 = (data) => data.toString("base64");
const message = (command) => (command.text === undefined ? Buffer.from(command.data, "base64") : command.text);

socket.on("open", () => tell({ event: "open", protocol: socket.protocol }));
socket.on("message", (data, binary) => tell({ event: "message", binary, data: base64(data) }));
socket.on("ping", (data) => tell({ event: "ping", data: base64(data) }));
socket.on("pong", (data) => tell({ event: "pong", data: base64(data) }));
socket.on("close", (code, reason) => tell({ event: "close", code, reason: reason.toString() }));
socket.on("unexpected-response", (request, response) => {
  tell({ event: "refused", status: response.statusCode });
  request.destroy();
});
socket.on("error", (error) => tell({ event: "error", message: error.message }));

const commands = {
  send: (command) => socket.send(message(command), { binary: command.text === undefined, fin: command.fin ?? true }),
  ping: (command) => socket.ping(message(command)),
  pong: (command) => socket.pong(message(command)),
  close: (command) => socket.close(command.code, command.reason),
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => socket.terminate());
