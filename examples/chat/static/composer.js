// Where a message is written: text, and at most one file, chosen, pasted or dropped.

import { $, size } from "./elements.js";
import { isPicture } from "./timeline.js";

const SAY_TYPING_EVERY = 2000; // milliseconds

let attached = null;
let said = 0;

export const limits = { text: 4000, file: 4 << 20, name: 24, room: 24 };

export function complain(words) {
  $("problem").textContent = words;
}

// ---- the file

async function sides(file) {
  if (!isPicture(file)) return {};
  try {
    const { width, height } = await createImageBitmap(file);
    return { width, height };
  } catch {
    return {}; // it only says that it is a picture
  }
}

async function attach(file) {
  complain("");
  if (!file) return;
  if (file.size > limits.file) return complain(`${file.name} has ${size(file.size)}; ${size(limits.file)} are allowed.`);
  if (!file.size) return complain(`${file.name} is empty.`);
  attached = { blob: file, name: file.name || "picture", type: file.type || "application/octet-stream", size: file.size, ...(await sides(file)) };
  showAttached();
  $("text").focus();
}

function showAttached() {
  const box = $("attached");
  const image = box.querySelector("img");
  URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  box.hidden = !attached;
  if (!attached) return;
  box.classList.toggle("picture", isPicture(attached));
  if (isPicture(attached)) image.src = URL.createObjectURL(attached.blob);
  box.querySelector("strong").textContent = attached.name;
  box.querySelector("p span").textContent = size(attached.size);
}

function takeAttached() {
  const file = attached;
  attached = null;
  $("file").value = "";
  showAttached();
  return file;
}

function initFiles() {
  const [box, drop] = [$("file"), document.querySelector("main")];
  $("attach").onclick = () => box.click();
  box.onchange = () => attach(box.files[0]);
  $("attached").querySelector("button").onclick = () => (takeAttached(), $("text").focus());
  $("text").addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    attach(event.clipboardData.files[0]);
  });
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  drop.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    drop.classList.add("dropping");
  });
  drop.addEventListener("dragleave", (event) => drop.contains(event.relatedTarget) || drop.classList.remove("dropping"));
  drop.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    drop.classList.remove("dropping");
    attach(event.dataTransfer.files[0]);
  });
}

// ---- the text

function fit() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 180)}px`;
  $("composer").classList.toggle("filled", Boolean(text.value.trim()));
}

export const draft = () => $("text").value;

export function setDraft(words) {
  $("text").value = words;
  complain("");
  fit();
}

// Calls send(text, file) for a message, and typing() now and then while one is written.
export function initComposer({ send, typing }) {
  const text = $("text");
  text.oninput = () => {
    fit();
    complain(text.value.length > limits.text ? `${text.value.length} of ${limits.text} characters` : "");
    if (!text.value.trim() || Date.now() - said < SAY_TYPING_EVERY) return;
    said = Date.now();
    typing();
  };
  text.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("composer").requestSubmit();
  };
  $("composer").onsubmit = (event) => {
    event.preventDefault();
    const words = text.value.trim();
    if ((!words && !attached) || words.length > limits.text) return;
    send(words, takeAttached());
    said = 0;
    setDraft("");
    text.focus();
  };
  initFiles();
}
