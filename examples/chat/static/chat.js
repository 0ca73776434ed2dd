// The chat of this window: who we are, the rooms, and what goes to the server and comes from there.
//
// A message that is written is in its room at once, as pending. It goes to the server while we are connected and let
// into the room, one after another, and again after a connection was lost: the server knows a message by its key, and
// takes it once.

import { complain, draft, initComposer, limits, setDraft } from "./composer.js";
import { $, avatar, make, size } from "./elements.js";
import { Room } from "./room.js";
import { closeDrawer, initDrawer, showHead, showPeople, showRooms, showTyping } from "./sidebar.js";
import * as timeline from "./timeline.js";

const PATIENCE = 20_000; // milliseconds until an answer is given up
const FIRST = "lobby";

const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// A second window is somebody else; one that is loaded again is the same person.
const kept = JSON.parse(sessionStorage.getItem("chat") ?? "{}");
const me = { person: null, name: kept.name ?? "", key: kept.key ?? randomKey() };
const rooms = new Map();
let wanted = new Set(kept.rooms ?? [FIRST]);
let current = null;
let flushing = false;
let readTimer = 0;
const toldRead = new Map(); // room's name: the time up to which we said that we have read it

class Refusal extends Error {}

const socket = globalThis.io?.({
  autoConnect: false,
  auth: (give) => give({ name: me.name, key: me.key }),
  reconnectionDelay: 300,
  reconnectionDelayMax: 3000,
});

async function ask(event, wish) {
  const answer = await socket.timeout(PATIENCE).emitWithAck(event, wish);
  if (answer.error) throw new Refusal(answer.error);
  return answer;
}

function keep() {
  const joined = [...rooms.values()].filter((room) => room.joined).map((room) => room.name);
  sessionStorage.setItem("chat", JSON.stringify({ name: me.name, key: me.key, rooms: joined, current: current?.name }));
}

// ---- drawing

const actions = {
  load: async (message) => (message.blob ??= await fetchFile(message)),
  retry(message) {
    message.state = "pending";
    draw();
    flush();
  },
  discard(message) {
    rooms.get(message.room).remove(message);
    draw();
  },
  async save(message) {
    try {
      const blob = await actions.load(message);
      const url = URL.createObjectURL(new Blob([blob], { type: "application/octet-stream" }));
      make("a", { href: url, download: message.file.name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      return error instanceof Refusal ? error.message : "It could not be fetched. Try again later.";
    }
  },
};

async function fetchFile(message) {
  const { data } = await ask("file", { room: message.room, at: message.at });
  return new Blob([data], { type: timeline.isPicture(message.file) ? message.file.type : "application/octet-stream" });
}

function draw() {
  showHead(current);
  showRooms(rooms, current, open);
  showPeople(current, me);
  showTyping(current, me);
  timeline.show(current ?? new Room({ room: "" }), me, actions);
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ""}${current ? `#${current.name} · ` : ""}Chat`;
  $("empty").hidden = Boolean(current?.messages.length);
  $("empty").querySelector("p").textContent = current ? "Nothing has been said here yet." : "Join a room on the left, or open one of your own.";
}

let announced = 0;

function showConnection(state, words = "") {
  clearTimeout(announced);
  document.body.dataset.state = state;
  $("state").dataset.state = state;
  $("state").textContent = { live: "Connected", lost: "Reconnecting", connecting: "Connecting" }[state];
  $("banner").hidden = !words;
  $("banner").querySelector("p").textContent = words;
  if (state === "live") announced = setTimeout(() => ($("banner").hidden = true), 2500);
}

const waiting = () => [...rooms.values()].flatMap((room) => room.messages.filter((message) => message.state === "pending"));

function showLost() {
  const count = waiting().length;
  const kept = count ? ` ${count === 1 ? "One message waits" : `${count} messages wait`} here until then.` : "";
  showConnection("lost", `The connection is lost. Trying again …${kept}`);
}

function announce({ name, text, file }) {
  $("announcer").append(make("p", { textContent: `${name}: ${[text, file?.name].filter(Boolean).join(", ")}` }));
  while ($("announcer").children.length > 10) $("announcer").firstChild.remove();
}

// ---- rooms

function roomOf(shown) {
  if (!rooms.has(shown.room)) rooms.set(shown.room, new Room(shown));
  const room = rooms.get(shown.room);
  return Object.assign(room, { topic: shown.topic, count: shown.members });
}

async function enter(name, create = false) {
  const answer = await ask("enter", { room: name, create });
  const room = roomOf(answer);
  const first = !room.joined && !room.readTo;
  room.joined = room.entered = true;
  room.people = new Map(answer.people.map((person) => [person.person, person]));
  room.reads = new Map(Object.entries(answer.reads));
  for (const message of answer.messages) {
    const isNew = room.put({ ...message, state: undefined });
    if (isNew && !first && message.person !== me.person && message.at > room.readTo) room.unread++;
  }
  if (first) room.readTo = room.last?.at ?? 0;
  return room;
}

function display(room) {
  if (current) current.draft = draft();
  current = room;
  if (room) {
    room.divider = room.unread ? room.readTo : null;
    setDraft(room.draft);
  }
  keep();
  draw();
  noteRead();
}

// Shows a room, and joins it first where we are not in there.
async function open(name) {
  closeDrawer();
  try {
    display(rooms.get(name)?.joined ? rooms.get(name) : await enter(name));
    if (matchMedia("(hover: hover)").matches) $("text").focus();
  } catch (error) {
    complain(error instanceof Refusal ? error.message : "There is no connection. Try again in a moment.");
  }
}

async function leave() {
  const room = current;
  try {
    await ask("leave", { room: room.name });
  } catch (error) {
    if (!(error instanceof Refusal)) return complain("There is no connection. Try again in a moment.");
  }
  room.joined = room.entered = false;
  room.unread = 0;
  room.people.clear();
  display([...rooms.values()].find((other) => other.joined) ?? null);
}

// ---- what is written

function send(text, file) {
  const message = { room: current.name, key: randomKey(), person: me.person, name: me.name, colour: me.colour, text, at: Date.now(), state: "pending" };
  if (file) {
    const { blob, ...about } = file;
    Object.assign(message, { blob, file: about });
  }
  current.put(message);
  timeline.arrived(true);
  current.divider = null;
  draw();
  if (socket.connected) flush();
  else showLost();
}

async function deliver(message) {
  const { room, key, text, blob, file } = message;
  try {
    const { at } = await ask("say", { room, key, text, ...(file && { file: { ...file, data: await blob.arrayBuffer() } }) });
    rooms.get(room).put({ ...message, at, state: undefined });
  } catch (error) {
    if (!(error instanceof Refusal)) return false; // it is sent again
    Object.assign(message, { state: "failed", problem: error.message });
  }
  draw();
  return true;
}

async function flush() {
  if (flushing) return;
  flushing = true;
  let next;
  while (socket.connected && (next = waiting().find((message) => rooms.get(message.room).entered))) {
    if (!(await deliver(next))) await new Promise((resolve) => setTimeout(resolve, 500));
  }
  flushing = false;
}

// ---- what was read

function noteRead() {
  if (!current || document.hidden || !timeline.isAtEnd()) return;
  const had = current.unread;
  current.unread = 0;
  current.readTo = current.last?.at ?? current.readTo;
  if (had) draw();
  clearTimeout(readTimer);
  readTimer = setTimeout(tellRead, 300);
}

function tellRead() {
  const last = current?.messages.findLast((message) => !message.notice && !message.state && message.person !== me.person);
  if (!last || !current.entered || last.at <= (toldRead.get(current.name) ?? 0)) return;
  toldRead.set(current.name, last.at);
  socket.emit("read", { room: current.name, at: last.at });
}

// ---- what the server says

const heard = {
  async welcome({ person, name, colour, rooms: known, limits: given }) {
    Object.assign(me, { person, name, colour });
    Object.assign(limits, given);
    $("my-name").textContent = name;
    $("my-avatar").replaceWith(Object.assign(avatar(me), { id: "my-avatar" }));
    if ($("join").open) $("join").close();
    toldRead.clear();
    const there = new Set(known.map(({ room }) => room));
    for (const room of rooms.values()) if (!room.joined && !there.has(room.name)) rooms.delete(room.name);
    known.forEach(roomOf);
    for (const name of wanted) await enter(name, true).catch((error) => complain(error.message));
    const back = document.body.dataset.state === "lost";
    showConnection("live", back ? "You are connected again." : "");
    display(current ?? rooms.get(kept.current) ?? [...rooms.values()].find((room) => room.joined) ?? null);
    flush();
  },
  room(shown) {
    roomOf(shown);
    draw();
  },
  gone({ room }) {
    if (!rooms.get(room)?.joined) rooms.delete(room);
    draw();
  },
  said(message) {
    const room = rooms.get(message.room);
    if (!room?.put({ ...message, state: undefined })) return;
    room.stopTyping(message.person);
    room.reads.set(message.person, message.at);
    if (message.person !== me.person) room.unread++;
    if (room === current) {
      timeline.arrived(false);
      announce(message);
    }
    draw();
    noteRead();
  },
  typing({ room, ...person }) {
    rooms.get(room)?.startTyping(person, draw);
    draw();
  },
  read({ room, person, at }) {
    rooms.get(room)?.reads.set(person, at);
    draw();
  },
  joined({ room, ...person }) {
    rooms.get(room)?.people.set(person.person, person);
    rooms.get(room)?.note(person, "joined");
    draw();
  },
  left({ room, ...person }) {
    rooms.get(room)?.people.delete(person.person);
    rooms.get(room)?.stopTyping(person.person);
    rooms.get(room)?.note(person, "left");
    draw();
  },
};

function listen() {
  for (const [event, handler] of Object.entries(heard)) socket.on(event, handler);
  socket.on("disconnect", (reason) => {
    if (reason === "io client disconnect") return;
    wanted = new Set([...rooms.values()].filter((room) => room.joined).map((room) => room.name));
    for (const room of rooms.values()) room.entered = false;
    showLost();
    if (reason === "io server disconnect") socket.connect();
  });
  socket.on("connect_error", (error) => {
    if (error.data?.field === "name") return askName(error.message);
    if (me.person) showLost();
    else showConnection("connecting", "The server does not answer. Trying again …");
  });
}

// ---- names

const GUESSES = [
  ["Quiet", "Brave", "Sunny", "Clever", "Swift", "Gentle", "Lucky", "Curious"],
  ["Otter", "Heron", "Fox", "Badger", "Wren", "Lynx", "Hare", "Puffin"],
];

const guess = () => GUESSES.map((words) => words[Math.floor(Math.random() * words.length)]).join(" ");

function askName(problem = "") {
  $("join-name").value = me.name || guess();
  $("join-name").maxLength = limits.name;
  $("join-problem").textContent = problem;
  if (!$("join").open) $("join").showModal();
  $("join-name").select();
}

function connect(name) {
  me.name = name;
  wanted = new Set([...rooms.values()].filter((room) => room.joined).map((room) => room.name));
  if (!me.person) wanted = new Set(kept.rooms ?? [FIRST]);
  for (const room of rooms.values()) room.entered = false;
  socket.disconnect().connect();
}

function initNames() {
  $("join").oncancel = (event) => me.person || event.preventDefault();
  $("join").querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const name = $("join-name").value.trim();
    if (name) connect(name);
  };
  $("rename").onclick = () => {
    closeDrawer();
    askName();
  };
}

// ---- the page

function initRooms() {
  $("leave").onclick = leave;
  $("create-name").maxLength = limits.room;
  $("create").onsubmit = async (event) => {
    event.preventDefault();
    $("create-problem").textContent = "";
    if (!$("create-name").value.trim()) return $("create-name").focus();
    try {
      display(await enter($("create-name").value, true));
      $("create-name").value = "";
      closeDrawer();
    } catch (error) {
      $("create-problem").textContent = error instanceof Refusal ? error.message : "There is no connection.";
    }
  };
  addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!event.altKey || !step) return;
    const joined = [...rooms.values()].filter((room) => room.joined);
    const next = joined[(joined.indexOf(current) + step + joined.length) % joined.length];
    if (next) display(next);
    event.preventDefault();
  });
}

function begin() {
  initDrawer();
  initComposer({ send, typing: () => socket.connected && socket.volatile.emit("typing", { room: current.name }) });
  initNames();
  initRooms();
  timeline.watchEnd(noteRead);
  document.addEventListener("visibilitychange", noteRead);
  addEventListener("pagehide", () => socket?.disconnect());
  addEventListener("pageshow", (event) => event.persisted && connect(me.name));
  draw();
  if (!socket) return showConnection("lost", "socket.io-client could not be loaded. Without a network, run: make client");
  listen();
  showConnection("connecting");
  if (me.name) socket.connect();
  else askName();
}

begin();
