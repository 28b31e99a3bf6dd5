// What the pages of the console do in the browser beside htmx: the stream of events, the theme, copying.
//
// data-live="TOPIC"        gets the event "live" whenever something of the topic has changed; with data-version, unless
//                          the page shows that version already
// data-live-html="TOPIC"   is given the content that the topic sends
// data-copy="TEXT"         copies the text
// data-submit              a form that is sent as soon as the page is there
// data-close               removes what it is in
// interlock.on(TOPIC, fn)  calls fn with the data of each event of the topic, for the scripts of single pages
"use strict";

function toSignIn() { // which leads back to this page
  location.assign(`/?to=${encodeURIComponent(location.pathname + location.search)}`);
}

const interlock = (() => {
  const HIDDEN_FOR = 30000; // milliseconds in which a page that nobody sees still listens
  const RETRY = 3000; // milliseconds until a stream that was refused is opened anew
  const handlers = new Map();
  let source = null, last = "", timer = 0;

  function on(topic, handler) {
    if (!handlers.has(topic)) handlers.set(topic, []);
    handlers.get(topic).push(handler);
    if (source) reopen(); // of a page that began to look at more
  }

  function off(topic) {
    if (handlers.delete(topic) && source) reopen();
  }

  function status(text, kind) {
    const element = document.getElementById("live");
    if (!element) return;
    element.hidden = false;
    element.dataset.kind = kind;
    if (element.textContent !== text) element.textContent = text;
  }

  function reopen() {
    close();
    open();
  }

  function close() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  function open() {
    const topics = [...handlers.keys()].filter((topic) => !topic.startsWith("missed:"));
    if (source || !topics.length) return;
    const address = new URL("/console/events", location.href);
    address.searchParams.set("topics", topics.join(","));
    if (last) address.searchParams.set("after", last);
    source = new EventSource(address);
    source.onopen = () => status("live", "live");
    source.onerror = () => {
      status("reconnecting …", "away");
      if (source.readyState === EventSource.CLOSED) { // it was refused: the browser itself does not come back
        close();
        timer = setTimeout(open, RETRY);
      }
    };
    for (const topic of topics) {
      source.addEventListener(topic, (event) => {
        last = event.lastEventId || last;
        for (const handler of handlers.get(topic) || []) handler(event.data);
      });
    }
    source.addEventListener("missed", (event) => {
      const missed = JSON.parse(event.data);
      for (const handler of handlers.get("missed:" + missed.topic) || []) handler(missed.count);
    });
    source.addEventListener("signed-out", toSignIn);
  }

  function onMissed(topic, handler) {
    handlers.set("missed:" + topic, [handler]);
  }

  function connect() {
    const byTopic = (name, use) => {
      const topics = new Set([...document.querySelectorAll(`[${name}]`)].map((element) => element.getAttribute(name)));
      for (const topic of topics) {
        on(topic, (data) => {
          for (const element of document.querySelectorAll(`[${name}]`)) {
            if (element.getAttribute(name) === topic) use(element, data);
          }
        });
      }
    };
    byTopic("data-live-html", (element, data) => Idiomorph.morph(element, data, {morphStyle: "innerHTML"}));
    byTopic("data-live", (element, data) => {
      if (element.dataset.version === data) return;
      element.dataset.version = data;
      htmx.trigger(element, "live");
    });
    open();
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(close, HIDDEN_FOR);
    else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });

  return {on, off, onMissed, connect};
})();

const THEMES = ["", "light", "dark"];
const THEME_NAMES = {"": "as the system has it", light: "light", dark: "dark"};

function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  document.getElementById("theme").setAttribute("aria-label", `Theme: ${THEME_NAMES[theme]}`);
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    const area = document.createElement("textarea"); // without TLS, browsers have no clipboard for pages
    area.value = button.dataset.copy;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.dataset.done = "";
  setTimeout(() => delete button.dataset.done, 1200);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("copy" in button.dataset) copy(button);
  if ("close" in button.dataset) button.parentElement.remove();
  if (button.id === "theme") {
    const now = document.documentElement.dataset.theme || "";
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    document.cookie = `interlock-theme=${next}; path=/; max-age=31536000; SameSite=Strict`;
    showTheme(next);
  }
});

// What a person types, or has opened, stays when the page around it is brought up to date.
const isKept = (node) => node.dataset !== undefined && "keep" in node.dataset;
addEventListener("DOMContentLoaded", () => {
  const callbacks = Idiomorph.defaults.callbacks;
  callbacks.beforeNodeMorphed = (node) => !isKept(node);
  callbacks.beforeNodeRemoved = (node) => !isKept(node) && !node.querySelector?.("[data-keep] form");
  callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.tagName === "DETAILS");
});

function leave(element) {
  const details = element.closest("details.create");
  const slot = element.closest(".slot, #peer-panel");
  if (details) {
    const form = details.querySelector("form");
    form.reset();
    form.querySelector(".difference")?.replaceChildren();
    details.open = false;
  } else if (slot) {
    slot.replaceChildren();
  }
}

document.addEventListener("committed", (event) => {
  const form = event.target;
  setTimeout(() => { // once htmx has used what is in it
    leave(form);
    for (const element of document.querySelectorAll("[data-live]")) htmx.trigger(element, "live");
  });
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-cancel]");
  if (button) leave(button);
  for (const details of document.querySelectorAll("details.create[open]")) {
    if (!details.contains(event.target)) details.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const details = event.target.closest("details.create[open]");
  if (details) {
    details.open = false;
    details.querySelector("summary").focus();
  } else if (event.target.closest(".slot, #peer-panel")) {
    leave(event.target);
  }
});
document.addEventListener("input", (event) => {
  event.target.closest("form[data-review]")?.querySelector(".difference").replaceChildren(); // it is of other values
});

// How long ago something was, renewed.
function words(seconds) {
  for (const [unit, length] of [["days", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}
setInterval(() => {
  for (const time of document.querySelectorAll("time[data-since]")) {
    const text = words(Date.now() / 1000 - Number(time.dataset.since));
    if (time.textContent !== text) time.textContent = text;
  }
}, 5000);

// A form that is sent twice at once, by a double click, is sent once.
document.addEventListener("htmx:confirm", (event) => {
  if (event.detail.verb !== "get" && event.detail.elt.classList.contains("htmx-request")) event.preventDefault();
});

// What went wrong is gone once something went well that a person did, or what went wrong itself.
let failed = null; // the element whose request went wrong last
document.addEventListener("htmx:afterRequest", (event) => {
  const {elt, successful, requestConfig} = event.detail;
  if (!successful) failed = elt;
  else if (elt === failed || ["submit", "click"].includes(requestConfig.triggeringEvent?.type)) {
    failed = null;
    document.getElementById("problem").replaceChildren();
  }
});
document.addEventListener("htmx:sendError", () => {
  const text = document.createElement("div");
  text.className = "toast";
  text.textContent = "The control plane does not answer. What is shown stays as it was.";
  document.getElementById("problem").replaceChildren(text);
});

document.addEventListener("DOMContentLoaded", () => {
  showTheme(document.documentElement.dataset.theme || "");
  for (const form of document.querySelectorAll("form[data-submit]")) form.requestSubmit();
  interlock.connect();
});
