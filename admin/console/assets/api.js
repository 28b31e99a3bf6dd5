// Tries calls of the API: each form becomes a request, with the rights of whoever has signed in.
"use strict";

(() => {
  const LONGEST = 100000; // characters of a reply that are shown
  const STREAM_FOR = 10000; // milliseconds for which a reply that has no end is read

  async function send(form) {
    const {method} = form.dataset, query = new URLSearchParams(), headers = {...JSON.parse(document.body.getAttribute("hx-headers"))};
    let path = form.dataset.path, body;
    for (const field of form.querySelectorAll("[data-place]")) {
      const {place} = field.dataset;
      if (place === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
      else if (place === "body") body = field.value;
      else if (field.value && place === "query") query.set(field.name, field.value);
      else if (field.value) headers[field.name] = field.value;
    }
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const address = path + (query.size ? `?${query}` : "");
    const result = form.querySelector(".result"), button = form.querySelector("button");
    const line = element("p", `${method} ${address}`, "mono"), shown = element("pre", "", "");
    result.replaceChildren(line, shown);
    shown.tabIndex = 0;
    button.disabled = true;
    const ending = new AbortController(), timer = setTimeout(() => ending.abort(), STREAM_FOR), began = performance.now();
    try {
      const reply = await fetch(address, {method, headers, body, signal: ending.signal});
      line.textContent = `${method} ${address} → ${reply.status}, ${Math.round(performance.now() - began)} ms${reply.headers.get("ETag") ? `, ETag ${reply.headers.get("ETag")}` : ""}`;
      line.classList.toggle("bad", !reply.ok);
      await read(reply, shown);
    } catch (error) {
      if (error.name === "AbortError") shown.append("\n(read for ten seconds)");
      else shown.textContent = "The control plane does not answer.";
    } finally {
      clearTimeout(timer);
      button.disabled = false;
    }
  }

  async function read(reply, shown) {
    if (!reply.body) return;
    const decoder = new TextDecoder();
    let text = "";
    for (const reader = reply.body.getReader(); text.length < LONGEST;) {
      const {done, value} = await reader.read();
      if (done) break;
      text += decoder.decode(value, {stream: true});
      shown.textContent = text;
    }
    if ((reply.headers.get("Content-Type") || "").includes("json") && text.length < LONGEST) {
      try { shown.textContent = JSON.stringify(JSON.parse(text), null, 2); } catch { /* a stream of several */ }
    }
    if (text.length >= LONGEST) shown.append("\n(and more)");
  }

  function element(kind, content, name) {
    const made = document.createElement(kind);
    made.className = name;
    made.textContent = content;
    return made;
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.method) return;
    event.preventDefault();
    send(event.target);
  });
})();
