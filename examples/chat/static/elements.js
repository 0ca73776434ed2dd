// Small things that every part of the page makes. Text only ever becomes text: nothing here reads HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const button = (label, content, onclick, className = "plain") => {
  const element = make("button", { type: "button", className, onclick, title: label }, content);
  element.setAttribute("aria-label", label);
  return element;
};

// ---- people

function initials(name) {
  const words = name.split(/[\s-]+/).filter(Boolean);
  const first = words.slice(0, 2).map((word) => [...word][0]);
  return first.join("").toLocaleUpperCase();
}

export function avatar({ name, colour }) {
  const element = make("span", { className: "avatar", textContent: initials(name) });
  element.dataset.colour = colour;
  element.setAttribute("aria-hidden", "true");
  return element;
}

// ---- words

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export const time = (at) => clock.format(at);

export function date(at) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
  return ["Today", "Yesterday"][days] ?? day.format(at);
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

export function list(names, most = 2) {
  if (names.length > most) return "Several people";
  return names.join(" and ");
}

const LINK = /\bhttps?:\/\/[^\s<>"']*[^\s<>"'.,;:!?)\]]/g;

// Text with its addresses made into links.
export function linked(text) {
  const parts = [];
  let at = 0;
  for (const { 0: url, index } of text.matchAll(LINK)) {
    parts.push(text.slice(at, index), make("a", { href: url, target: "_blank", rel: "noopener noreferrer", textContent: url }));
    at = index + url.length;
  }
  return [...parts, text.slice(at)];
}

const EMOJI = /^(?:\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\uFE0F|\u200D\p{Extended_Pictographic})*\s?){1,4}$/u;

export const isEmoji = (text) => EMOJI.test(text);
