// The messages of the room that is shown. Elements are kept from one drawing to the next, so that only what is new
// is drawn, and the place where somebody reads does not move.

import { $, avatar, button, date, icon, isEmoji, linked, make, size, time } from "./elements.js";

const TOGETHER = 5 * 60_000; // milliseconds between messages of one person that are drawn as one
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const NEAR = 80; // pixels from the end that count as the end

const scroller = $("scroller");
let elements = new Map();
let shownRoom = null;
let following = true;
let missed = 0;
let lastTop = 0;
let lastSize = "";

export const isPicture = (file) => PICTURES.includes(file.type);

// Draws a room. `actions` has what its buttons do: load(message), retry(message), discard(message), save(message).
export function show(room, me, actions) {
  const another = room !== shownRoom;
  if (another) {
    elements = new Map();
    following = true;
    missed = 0;
  }
  shownRoom = room;
  const kept = new Map();
  const wanted = arranged(room, me).map((item) => {
    const element = elements.get(item.id) ?? item.make(actions);
    item.update?.(element);
    kept.set(item.id, element);
    return element;
  });
  elements = kept;
  place($("messages"), wanted);
  if (following) toEnd();
  showLatest();
}

// Something came at the end of the room that is shown.
export function arrived(own) {
  if (own) following = true;
  else if (!following) missed++;
}

export const isAtEnd = () => following;

function place(parent, wanted) {
  const staying = new Set(wanted);
  for (const child of [...parent.children]) if (!staying.has(child)) child.remove();
  wanted.forEach((element, index) => {
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
}

// ---- what is drawn, in order

function arranged(room, me) {
  const items = [];
  let before = null;
  let divided = false;
  for (const message of room.messages) {
    if (!before || date(before.at) !== date(message.at)) {
      items.push({ id: `day ${date(message.at)}`, make: () => make("li", { className: "day" }, make("span", { textContent: date(message.at) })) });
      before = null;
    }
    if (!divided && room.divider !== null && message.at > room.divider && message.person !== me.person && !message.notice) {
      items.push({ id: `new ${room.divider}`, make: () => make("li", { className: "new" }, make("span", { textContent: "New" })) });
      before = null;
      divided = true;
    }
    items.push(message.notice ? notice(message) : spoken(room, message, before, me));
    before = message;
  }
  return items;
}

const notice = (message) => ({
  id: `${message.person} ${message.key}`,
  make: () => make("li", { className: "notice", textContent: `${message.name} ${message.notice}` }),
});

function spoken(room, message, before, me) {
  const own = message.person === me.person;
  const together = before && !before.notice && before.person === message.person && message.at - before.at < TOGETHER;
  return {
    id: `${message.person} ${message.key}`,
    make: (actions) => bubble(message, own, actions),
    update(element) {
      element.classList.toggle("together", Boolean(together));
      element.querySelector("time").textContent = time(message.at);
      if (own) showState(element, message, room.readers(message));
    },
  };
}

// ---- a message

function bubble(message, own, actions) {
  const body = make("div", { className: "bubble" });
  if (message.file) body.append(isPicture(message.file) ? picture(message, actions) : card(message, actions));
  if (message.text) body.append(make("p", { className: isEmoji(message.text) ? "emoji" : "", dir: "auto" }, ...linked(message.text)));
  body.append(make("span", { className: "meta" }, make("time", { dateTime: new Date(message.at).toISOString() }), make("span", { className: "ticks" })));
  const name = make("strong", { className: "name", textContent: own ? "You" : message.name });
  name.dataset.colour = message.colour;
  const element = make("li", { className: own ? "message own" : "message" }, avatar(message), make("div", {}, name, body));
  if (own) element.lastChild.append(failure(message, actions));
  return element;
}

function failure(message, actions) {
  const again = make("button", { type: "button", textContent: "Try again", onclick: () => actions.retry(message) });
  const discard = make("button", { type: "button", textContent: "Discard", onclick: () => actions.discard(message) });
  return make("p", { className: "failure", hidden: true, role: "alert" }, icon("alert"), make("span"), again, discard);
}

const STATES = {
  pending: ["clock", "Waiting to be sent"],
  failed: ["alert", "Not sent"],
  sent: ["tick", "Sent"],
};

function showState(element, message, readers) {
  const state = message.state ?? "sent";
  const [name, words] = state === "sent" && readers ? ["ticks", `Read by ${readers}`] : STATES[state];
  element.dataset.state = name === "ticks" ? "read" : state;
  const ticks = element.querySelector(".ticks");
  if (ticks.dataset.words !== words) {
    ticks.dataset.words = ticks.title = words;
    ticks.replaceChildren(icon(name), make("span", { className: "unseen", textContent: words }));
  }
  const problem = element.querySelector(".failure");
  problem.hidden = state !== "failed";
  problem.querySelector("span").textContent = message.problem ?? "";
}

// ---- files

function picture(message, actions) {
  const { name, width, height } = message.file;
  const image = make("img", { alt: name, draggable: false });
  if (width && height) Object.assign(image, { width, height });
  const open = button(`Show ${name}`, image, () => view(image), "picture");
  const failed = () => open.replaceWith(card(message, actions));
  image.onerror = failed;
  actions.load(message).then((blob) => (image.src = URL.createObjectURL(blob)), failed);
  return open;
}

function view(image) {
  Object.assign($("viewer").querySelector("img"), { src: image.src, alt: image.alt });
  $("viewer").showModal();
}

function card(message, actions) {
  const { name, size: bytes } = message.file;
  const words = make("span", {}, make("strong", { textContent: name, dir: "auto" }), make("small", { textContent: size(bytes) }));
  const element = button(`Download ${name}`, icon("file"), () => save(), "card");
  element.append(words);
  const save = async () => {
    element.disabled = true;
    const problem = await actions.save(message);
    element.disabled = false;
    words.lastChild.textContent = problem || size(bytes);
  };
  return element;
}

// ---- the end of the list

export function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  lastTop = scroller.scrollTop;
  missed = 0;
}

function showLatest() {
  $("latest").hidden = following;
  $("latest").lastChild.textContent = missed ? `${missed} new` : "Latest";
}

// Calls `reached` when the end comes into sight.
export function watchEnd(reached) {
  const look = () => {
    const [before, size] = [following, `${scroller.clientWidth} ${scroller.clientHeight}`];
    const resized = size !== lastSize;
    lastSize = size;
    if (resized && following) return toEnd(); // the screen was turned, nobody has scrolled
    if (scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR) following = true;
    else if (scroller.scrollTop < lastTop) following = false; // not when the end moves away, as a picture loads
    lastTop = scroller.scrollTop;
    if (following) missed = 0;
    showLatest();
    if (following && !before) reached();
  };
  scroller.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(() => following && toEnd()).observe($("messages"));
  new ResizeObserver(() => following && toEnd()).observe(scroller);
  $("latest").onclick = () => {
    following = true;
    toEnd();
    showLatest();
    reached();
  };
}
