// The page of an environment: key pairs of peers are made here, and the private key is sent nowhere.
"use strict";

(() => {
  let made = null; // the key pair that was made last, until the page has shown it
  let maker = null; // the form that it was made for: the key belongs into the reply to that one alone

  const base64 = (octets) => btoa(String.fromCharCode(...new Uint8Array(octets)));

  async function makeKey() {
    const pair = await crypto.subtle.generateKey({name: "X25519"}, true, ["deriveBits"]);
    const written = await crypto.subtle.exportKey("pkcs8", pair.privateKey);
    return {
      public: base64(await crypto.subtle.exportKey("raw", pair.publicKey)),
      private: base64(written.slice(-32)), // RFC 8410 §7: the key is the end of it
    };
  }

  function say(text) {
    const message = document.createElement("div");
    message.className = "toast";
    message.textContent = text;
    document.getElementById("problem").replaceChildren(message);
  }

  document.addEventListener("htmx:confirm", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-make-key]") || event.defaultPrevented) return;
    event.preventDefault();
    try {
      made = await makeKey();
      maker = form;
    } catch {
      say("This browser makes no X25519 keys here (that needs TLS, or this machine itself): use interlock peer create.");
      return;
    }
    form.elements.public_key.value = made.public;
    event.detail.issueRequest(true);
  });

  function draw(text) {
    const code = qrcode(0, "L");
    code.addData(text);
    code.make();
    const count = code.getModuleCount(), quiet = 4; // modules around it, by the standard
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    picture.setAttribute("viewBox", `0 0 ${count + 2 * quiet} ${count + 2 * quiet}`);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", "The configuration with its private key, for the WireGuard app of a phone");
    let path = "";
    for (let row = 0; row < count; row++) {
      for (let column = 0; column < count; column++) {
        if (code.isDark(row, column)) path += `M${column + quiet} ${row + quiet}h1v1h-1z`;
      }
    }
    const dark = document.createElementNS("http://www.w3.org/2000/svg", "path");
    dark.setAttribute("d", path);
    picture.append(dark);
    return picture;
  }

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "peer-panel") return;
    const panel = event.detail.target.querySelector("[data-peer]");
    if (!panel || !made || event.detail.requestConfig.elt !== maker) return;
    for (const config of panel.querySelectorAll("[data-config]")) {
      config.textContent = config.textContent.replace(panel.dataset.placeholder, made.private);
    }
    const note = document.createElement("p");
    note.className = "hint";
    note.textContent = "Scan it with the WireGuard app, or download the file: the private key is shown this once.";
    panel.querySelector("[data-qr]").replaceChildren(draw(panel.querySelector("[data-config=app]").textContent), note);
    made = maker = null;
    const details = document.querySelector("details.create[open]:has([data-make-key])");
    if (details) {
      details.querySelector("form").reset();
      details.open = false;
    }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-download]");
    if (!button) return;
    const text = button.closest("[data-peer]").querySelector("[data-config=wg-quick]").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "text/plain"}));
    link.download = button.dataset.download;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
})();
