// Rooms and people beside the messages, a drawer on a phone; and the head of the room that is shown.

import { $, avatar, icon, list, make } from "./elements.js";

const MOST_FACES = 5;

const entries = new Map(); // room's name: its element

// ---- rooms

function entry(room, open) {
  const name = make("span", { className: "room-name", textContent: room.name });
  const badge = make("span", { className: "badge" });
  const count = make("span", { className: "count" });
  const element = make("li", {}, make("button", { type: "button", onclick: () => open(room.name) }, name, count, badge));
  element.firstChild.prepend(make("span", { className: "hash", textContent: "#" }));
  return element;
}

function update(element, room, isCurrent) {
  const control = element.firstChild;
  const [badge, count] = [element.querySelector(".badge"), element.querySelector(".count")];
  element.className = room.joined ? "joined" : "other";
  control.title = room.joined ? room.topic : `Join ${room.name}`;
  if (isCurrent) control.setAttribute("aria-current", "page");
  else control.removeAttribute("aria-current");
  badge.textContent = room.unread ? Math.min(room.unread, 99) : "";
  count.textContent = room.joined ? "" : room.count ? `${room.count} here` : "join";
  control.setAttribute(
    "aria-label",
    room.joined ? `${room.name}${room.unread ? `, ${room.unread} unread` : ""}` : `Join ${room.name}, ${room.count} here`,
  );
}

export function showRooms(rooms, current, open) {
  for (const [name, element] of entries) {
    if (rooms.has(name)) continue;
    element.remove();
    entries.delete(name);
  }
  const ordered = [...rooms.values()].sort((a, b) => b.joined - a.joined);
  ordered.forEach((room, index) => {
    if (!entries.has(room.name)) entries.set(room.name, entry(room, open));
    const element = entries.get(room.name);
    update(element, room, room === current);
    if ($("rooms").children[index] !== element) $("rooms").insertBefore(element, $("rooms").children[index] ?? null);
  });
  const elsewhere = ordered.reduce((sum, room) => sum + (room === current ? 0 : room.unread), 0);
  $("menu-badge").textContent = elsewhere ? Math.min(elsewhere, 99) : "";
  $("menu").setAttribute("aria-label", elsewhere ? `Rooms and people, ${elsewhere} unread` : "Rooms and people");
}

// ---- people

function people(room, me) {
  const here = [...(room?.people.values() ?? [])];
  return here.sort((a, b) => (b.person === me.person) - (a.person === me.person) || a.name.localeCompare(b.name));
}

export function showPeople(room, me) {
  const here = people(room, me);
  $("people-count").textContent = here.length || "";
  $("people").replaceChildren(
    ...here.map((person) => {
      const types = room.typing.has(person.person) ? icon("edit") : null;
      const name = make("span", { className: "person", textContent: person.name, dir: "auto" });
      const you = person.person === me.person ? make("small", { textContent: "you" }) : null;
      return make("li", {}, avatar(person), name, you, types);
    }),
  );
  const faces = here.slice(0, MOST_FACES).map((person) => make("li", { title: person.name }, avatar(person)));
  if (here.length > MOST_FACES) faces.push(make("li", { className: "more", textContent: `+${here.length - MOST_FACES}` }));
  $("faces").replaceChildren(...faces);
}

export function showTyping(room, me) {
  const names = [...(room?.typing ?? new Map())].filter(([person]) => person !== me.person).map(([, { name }]) => name);
  const words = names.length ? `${list(names)} ${names.length === 1 ? "is" : "are"} typing` : "";
  const line = $("typing");
  if (line.dataset.words === words) return;
  line.dataset.words = words;
  const dots = make("span", { className: "dots" }, make("i"), make("i"), make("i"));
  line.replaceChildren(...(words ? [dots, words] : []));
}

export function showHead(room) {
  $("title").textContent = room ? room.name : "No room";
  $("topic").textContent = room?.topic || (room ? "A room that somebody opened" : "");
  $("leave").hidden = !room;
  $("composer").hidden = !room;
  $("text").placeholder = room ? `Message #${room.name}` : "";
}

// ---- the drawer

const narrow = matchMedia("(max-width: 52rem)");

function setDrawer(open) {
  document.body.classList.toggle("drawer", open);
  $("menu").setAttribute("aria-expanded", open);
  document.querySelector("main").inert = open;
  $("sidebar").inert = narrow.matches && !open;
}

export function closeDrawer() {
  if (!narrow.matches) return;
  setDrawer(false);
}

export function initDrawer() {
  setDrawer(false);
  narrow.addEventListener("change", () => setDrawer(false));
  $("menu").onclick = () => {
    setDrawer(true);
    $("close").focus();
  };
  for (const id of ["close", "scrim"])
    $(id).onclick = () => {
      setDrawer(false);
      $("menu").focus();
    };
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.classList.contains("drawer")) $("close").click();
  });
}
