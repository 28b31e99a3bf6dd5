// The mesh: a click on a link, a cell or "Why" asks the doctor on the host that sees; a cell says which pair it is.
"use strict";

(() => {
  const CELL = 10; // units, as drawing.py has them

  function ask(host, target) {
    const form = document.getElementById("why-form");
    form.elements.host.value = host;
    form.elements.target.value = target;
    form.requestSubmit();
  }

  function pair(event) {
    const matrix = event.target.closest("#matrix");
    if (!matrix) return null;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.getScreenCTM().inverse());
    const hosts = matrix.dataset.hosts.split(" "), row = Math.floor(at.y / CELL), column = Math.floor(at.x / CELL);
    return hosts[row] && hosts[column] ? [hosts[row], hosts[column]] : null;
  }

  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-host]");
    if (chosen) ask(chosen.dataset.host, chosen.dataset.target);
    else {
      const found = pair(event);
      if (found) ask(found[0], found[0] === found[1] ? "" : found[1]);
    }
  });
  document.addEventListener("mousemove", (event) => {
    const found = pair(event), shown = document.getElementById("cell");
    if (shown && found) shown.textContent = found[0] === found[1] ? found[0] : `${found[0]} → ${found[1]}`;
  });
})();
