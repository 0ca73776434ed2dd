// A room as this window knows it: its messages in order, who is there, who types, who has read what.

const TYPING_LASTS = 4000; // milliseconds after the last sign of it

const same = (one, other) => one.person === other.person && one.key === other.key;

export class Room {
  constructor({ room, topic, members }) {
    this.name = room;
    this.topic = topic;
    this.count = members;
    this.joined = false; // the person wants to be in here
    this.entered = false; // the server has let us in, on this connection
    this.messages = [];
    this.people = new Map(); // id: person, name and colour
    this.reads = new Map();
    this.typing = new Map();
    this.unread = 0;
    this.readTo = 0; // time of the last message that was on the screen
    this.divider = null; // the messages after this time were new when the room was opened
    this.draft = "";
  }

  // Adds a message, or what is new of one that is there.
  put(message) {
    const old = this.messages.find((other) => same(other, message));
    if (old) Object.assign(old, message);
    else this.messages.push(message);
    this.messages.sort((a, b) => Boolean(a.state) - Boolean(b.state) || a.at - b.at);
    return !old;
  }

  remove(message) {
    this.messages = this.messages.filter((other) => other !== message);
  }

  // Somebody "joined" or "left": a line that stays in this window; who comes back at once has never left.
  note({ person, name }, what) {
    const last = this.messages.findLast((message) => !message.state);
    if (what === "joined" && last?.notice === "left" && last.person === person) return this.remove(last);
    this.put({ notice: what, person, name, key: `${what} ${Date.now()}`, at: Math.max(Date.now(), (last?.at ?? 0) + 1) });
  }

  startTyping({ person, name }, changed) {
    this.stopTyping(person);
    this.typing.set(person, { name, timer: setTimeout(() => (this.stopTyping(person), changed()), TYPING_LASTS) });
  }

  stopTyping(person) {
    clearTimeout(this.typing.get(person)?.timer);
    this.typing.delete(person);
  }

  // How many others have seen a message.
  readers({ at, person }) {
    return [...this.reads].filter(([other, readTo]) => other !== person && readTo >= at).length;
  }

  get last() {
    return this.messages.findLast((message) => !message.notice && !message.state);
  }
}
