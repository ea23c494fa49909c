// Refreshes the page: it gets the same address again and changes what differs, so
// that focus, scroll position, selection and what is being typed stay.
(() => {
  "use strict";
  const every = 5000; // milliseconds between an answer and the next request
  const patience = 10000; // milliseconds for an answer
  const page = document.getElementById("page");
  const offline = document.getElementById("offline");
  let timer = 0, request = null, paused = false, failing = "";

  const pause = document.createElement("button");
  pause.type = "button";
  pause.className = "plain";
  const said = document.createTextNode("");
  document.getElementById("live").replaceChildren(said, pause);

  function show() {
    said.data = paused ? "Not refreshed. " : "Refreshed every " + every / 1000 + " s. ";
    pause.textContent = paused ? "Resume" : "Pause";
    offline.hidden = !failing;
    if (failing && offline.textContent !== failing) offline.textContent = failing;
  }

  function plan(wait) {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, wait);
  }

  async function refresh() {
    if (request) return;
    request = new AbortController();
    const limit = setTimeout(() => request.abort(), patience);
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" }, cache: "no-store", credentials: "same-origin", redirect: "error", signal: request.signal,
      });
      if (!answer.ok) throw new Error("it answers " + answer.status);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = next.getElementById("page");
      if (!fresh) throw new Error("it answers something else");
      if (!paused) update(next.title, fresh);
      failing = "";
    } catch (err) {
      const why = err instanceof Error && err.message.startsWith("it ") ? err.message : "it does not answer";
      const taken = document.querySelector("#taken time");
      failing = "The server cannot be asked: " + why + ". This is how it was at " + (taken ? taken.textContent : "?") + " UTC. It is tried again.";
    }
    clearTimeout(limit);
    request = null;
    show();
    plan(every);
  }

  function update(title, fresh) {
    const focused = document.activeElement;
    if (document.title !== title) document.title = title;
    morph(page, fresh);
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }

  const keyOf = (node) => node.nodeType === 1 ? node.dataset.key || node.dataset.keep || "" : "";

  // morph makes have like want. Elements with a key stay the same element wherever
  // they go; those that are kept are not looked into.
  function morph(have, want) {
    if (have.nodeType !== 1) {
      if (have.data !== want.data) have.data = want.data;
      return;
    }
    if (have.dataset.keep) return;
    // What a reader has opened or closed stays so.
    const own = (name) => name === "open" && have.nodeName === "DETAILS";
    for (const name of have.getAttributeNames()) if (!want.hasAttribute(name) && !own(name)) have.removeAttribute(name);
    for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value && !own(name)) have.setAttribute(name, value);
    const keyed = new Map(), wanted = new Set();
    for (const node of want.children) wanted.add(keyOf(node));
    for (const node of [...have.children]) {
      const key = keyOf(node);
      if (key && !wanted.has(key)) node.remove();
      else if (key) keyed.set(key, node);
    }
    let at = have.firstChild;
    for (const node of [...want.childNodes]) {
      const key = keyOf(node);
      let match = key ? keyed.get(key) : at && !keyOf(at) && at.nodeName === node.nodeName ? at : null;
      if (match && match.nodeName !== node.nodeName) match = null;
      if (!match) {
        have.insertBefore(document.importNode(node, true), at);
        continue;
      }
      if (match === at) at = at.nextSibling;
      else have.insertBefore(match, at);
      morph(match, node);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    show();
    plan(0);
  });
  document.addEventListener("visibilitychange", () => plan(0));
  show();
  plan(every);
})();
