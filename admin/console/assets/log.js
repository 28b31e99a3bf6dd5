// The log: look-ups come as server-sent events in batches, and are shown once a frame at most. The page holds at most
// SHOWN of them, however many come; what is skipped is counted. Whatever is in a look-up is put in as text.
"use strict";

(() => {
  const SHOWN = 200; // rows of the page
  const WAITING = 1000; // look-ups that wait while the page is paused
  const EVERY = 400; // milliseconds between two changes of the page: faster than that nobody reads
  const HIDDEN_FOR = 30000; // milliseconds in which a page that nobody sees still listens
  const RETRY = 3000; // milliseconds until a stream that was refused is opened anew
  const FAILED = new Set(["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "BADVERS", "NXDOMAIN"]);

  const form = document.getElementById("log-filter");
  const list = document.getElementById("log");
  const pause = document.getElementById("pause");
  let waiting = [], skipped = 0, isPaused = false, isDue = false, source = null, lostAt = 0, leftOut = 0, timer = 0;

  function parameters() {
    const given = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value.trim()) given.set(name, value.trim());
    return given;
  }

  function open() {
    if (source) source.close();
    source = new EventSource(`/console/log/stream?${parameters()}`);
    source.addEventListener("lookups", (event) => take(JSON.parse(event.data)));
    source.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
    source.onopen = () => {
      if (lostAt) note(`the stream was interrupted for ${Math.max(1, Math.round((Date.now() - lostAt) / 1000))} s: look-ups of that time are not shown`);
      lostAt = 0;
    };
    source.onerror = () => {
      lostAt = lostAt || Date.now();
      document.getElementById("heard").textContent = "reconnecting …";
      if (source.readyState === EventSource.CLOSED) check(); // it was refused: the browser does not come back by itself
    };
  }

  async function check() { // why it was refused: signed out meanwhile, or by the filter? else once more
    const refused = source, ending = new AbortController();
    const headers = {"HX-Request": "true"};
    const reply = await fetch(`/console/log/stream?${parameters()}`, {headers, signal: ending.signal}).catch(() => null);
    if (reply && reply.status === 401) toSignIn();
    else if (reply && [400, 403, 404].includes(reply.status)) {
      const said = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("p").textContent;
      if (source === refused) document.getElementById("heard").textContent = `nothing is heard, for this filter is refused: ${said}`;
    } else {
      ending.abort();
      clearTimeout(timer);
      timer = setTimeout(() => { if (source === refused) open(); }, RETRY);
    }
  }

  function take(lookups) {
    list.dataset.seen = Number(list.dataset.seen || 0) + lookups.length;
    waiting.push(...lookups);
    const most = isPaused ? WAITING : SHOWN;
    if (waiting.length > most) {
      skipped += waiting.length - most;
      waiting = waiting.slice(-most);
    }
    if (isPaused) pause.textContent = `Resume (${waiting.length} new)`;
    else if (!isDue) {
      isDue = true;
      setTimeout(() => requestAnimationFrame(show), EVERY);
    }
  }

  function show() {
    isDue = false;
    if (isPaused || !waiting.length) return;
    const rows = document.createDocumentFragment();
    for (const lookup of waiting.splice(0).slice(-SHOWN).reverse()) rows.append(row(lookup));
    const top = list.scrollTop, height = list.scrollHeight;
    list.prepend(rows);
    while (list.childElementCount > SHOWN) list.lastElementChild.remove();
    if (top > 0) list.scrollTop = top + list.scrollHeight - height; // who reads further down stays there
    document.getElementById("log-empty").hidden = true;
    showLeftOut();
  }

  function row(lookup) {
    const item = document.createElement("li");
    const isFailed = FAILED.has(lookup.rcode), isEmpty = Boolean(lookup.nodata);
    const found = [...(lookup.aliases || []), ...(lookup.answers || [])].join(", ");
    const time = text("time", new Date(lookup.time * 1000).toTimeString().slice(0, 8), "at");
    const badge = text("span", isEmpty ? "NODATA" : lookup.rcode, `badge ${isFailed ? "broken" : isEmpty ? "warning" : "ready"}`);
    const name = text("code", `${lookup.name || "(no name)"} ${lookup.type}`, "asked");
    const who = text("span", [lookup.source, lookup.environment || "no environment", lookup.host].filter(Boolean).join(" · "), "by");
    const why = text("span", lookup.reason || found, "what");
    const took = text("span", `${(lookup.duration_ms || 0).toFixed(2)} ms`, "took");
    const explain = text("button", "Explain", "quiet");
    explain.type = "button";
    explain.setAttribute("aria-label", `Explain ${lookup.name} ${lookup.type}`);
    explain.lookup = lookup;
    explain.disabled = !lookup.name;
    item.append(time, badge, name, who, why, took, explain);
    if (isFailed) item.className = "failed";
    return item;
  }

  function text(kind, content, name) {
    const element = document.createElement(kind);
    element.className = name;
    element.textContent = content;
    return element;
  }

  function note(content) {
    list.prepend(text("li", content, "gap"));
  }

  function showStatus(status) {
    const heard = [...status.heard, ...(status.here ? ["this control plane's own resolver"] : [])];
    const deaf = [...status.silent, ...status.unheard];
    let said = heard.length > 5 ? `${heard.length} resolvers are heard` : heard.length ? `heard: ${heard.join(", ")}` : "no resolver is heard";
    if (deaf.length) said += `; not heard: ${deaf.slice(0, 5).join(", ")}${deaf.length > 5 ? ` and ${deaf.length - 5} more` : ""}`;
    document.getElementById("heard").textContent = said;
    leftOut = status.left_out;
    showLeftOut();
  }

  function showLeftOut() {
    const element = document.getElementById("left-out"), number = leftOut + skipped;
    element.hidden = !number;
    element.textContent = `${number.toLocaleString("en")} look-ups were left out, because there were too many to show. Filters show all of fewer.`;
  }

  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const {name, type, environment, source: client} = button.lookup;
    const asked = new URLSearchParams({name, type});
    if (environment) asked.set("environment", environment);
    if (client && (!environment || client.startsWith(form.dataset.prefix))) asked.set("source", client);
    htmx.ajax("GET", `/console/try/answer?${asked}`, {target: "#explained", swap: "innerHTML"});
    document.getElementById("explained").scrollIntoView({block: "nearest"});
  });
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = isPaused ? "Resume" : "Pause";
    show();
  });
  document.getElementById("clear").addEventListener("click", () => {
    list.replaceChildren();
    skipped = leftOut = 0;
    showLeftOut();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const given = parameters();
      history.replaceState(null, "", given.size ? `?${given}` : location.pathname);
      list.replaceChildren();
      waiting = [];
      skipped = lostAt = 0;
      open();
    }, 300);
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => { source.close(); source = null; lostAt = Date.now(); }, HIDDEN_FOR);
    else if (!source) open();
  });
  addEventListener("pagehide", () => { if (source) source.close(); source = null; });
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  open();
})();
