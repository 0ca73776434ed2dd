"use strict";

const count = document.getElementById("count");
const connection = document.getElementById("connection");
let source = null;

function show(state, text) {
  if (connection.dataset.state !== state) {
    connection.dataset.state = state;
    connection.textContent = text;
  }
}

function connect() {
  source = new EventSource("/events");
  source.addEventListener("open", () => show("live", "Connected"));
  source.addEventListener("message", (event) => {
    count.textContent = event.data;
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      show("lost", "Disconnected: reload the page to try again");
    } else {
      show("waiting", "Connection lost, trying again …");
    }
  });
}

// A page that was left lives on in the browser's cache, and would hold its connection there:
// browsers open six to one host, and the server would see a request that never ends.
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", connect);
