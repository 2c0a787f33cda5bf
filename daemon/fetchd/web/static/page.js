"use strict";
// The page is whole without this. It adds: news without a reload, a filter, and times as one says them.
(() => {
  const EVERY = 3000;
  const PATIENCE = 10000;
  const FEW = 8; // jobs that are seen at once, and need no filter
  const KINDS = [
    ["failing", ".state.failing"], ["overdue", ".state.overdue"], ["with dead letters", "dl .dead"], ["owing deliveries", "dl .owed"],
    ["running", ".running"], ["not run yet", ".state.new"], ["paused", ".state.paused"], ["well", ".state.well"],
  ];
  const STEPS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  const main = document.getElementById("main");
  const list = document.getElementById("list");
  const lost = document.getElementById("lost");
  const announced = document.getElementById("said"); // the one place that is read aloud when it changes
  const sent = new Map(); // each part as the server sent it: times change here, so what is shown cannot be compared
  const onScreen = new Set();
  let skew = 0;
  let next = main.dataset.live;
  let timer = 0;

  // Times

  function said(seconds) {
    const length = Math.abs(seconds);
    if (length < 1) return "now";
    const [size, unit] = STEPS.find(([size]) => length >= 2 * size) || STEPS[3];
    const text = `${Math.floor(length / size)} ${unit}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }

  function tell(root) {
    const now = Date.now() + skew;
    for (const time of root.querySelectorAll("time:not(.exact)")) {
      const at = Date.parse(time.dateTime);
      const text = said((now - at) / 1000);
      if (!time.title) time.title = new Date(at).toLocaleString();
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // Of a thousand jobs, only those on the screen are kept up to date.
  const watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      onScreen[isIntersecting ? "add" : "delete"](target);
      if (isIntersecting) tell(target);
    }
  }, { rootMargin: "300px" });

  function tick() {
    if (document.hidden) return;
    for (const part of onScreen) tell(part);
  }

  // The filter: words, and one kind

  const field = document.getElementById("filter");
  const found = document.getElementById("found");
  const kinds = document.getElementById("kinds");
  const buttons = new Map();
  let only = "";

  function matches(row) {
    const words = field.value.trim().toLowerCase();
    return !words || row.querySelector(".who").textContent.toLowerCase().includes(words) ||
      row.querySelector(".states").textContent.toLowerCase().includes(words);
  }

  function filter() {
    let shown = 0;
    for (const row of list.children) {
      const fits = (!only || row.querySelector(only) !== null) && matches(row);
      row.hidden = !fits;
      shown += fits;
    }
    const filtered = field.value.trim() || only;
    const text = filtered ? `${shown} of ${list.children.length}` : "";
    if (found.textContent !== text) found.textContent = text;
    field.closest("p").hidden = list.children.length < FEW && !filtered;
  }

  function press(selector) {
    only = only === selector ? "" : selector;
    for (const [each, button] of buttons) button.setAttribute("aria-pressed", String(each === only));
    filter();
  }

  function button(selector) {
    const made = document.createElement("button");
    made.type = "button";
    made.setAttribute("aria-pressed", "false");
    made.addEventListener("click", () => press(selector));
    buttons.set(selector, made);
    kinds.append(made);
  }

  function count() {
    let several = 0;
    for (const [name, selector] of KINDS) {
      const number = list.querySelectorAll(selector).length;
      const shown = buttons.get(selector);
      const text = `${number.toLocaleString("en")} ${name}`;
      if (shown.textContent !== text) shown.textContent = text;
      shown.hidden = !number && only !== selector;
      several += !shown.hidden;
    }
    kinds.hidden = !only && (list.children.length < FEW || several < 2);
  }

  // News

  function keepFocus(change) {
    const focused = document.activeElement;
    const region = focused && focused.closest("[id]");
    const href = focused && focused.getAttribute("href");
    change();
    if (!region || document.activeElement === focused) return;
    const place = document.getElementById(region.id);
    const again = place && href ? [...place.querySelectorAll("[href]")].find((a) => a.getAttribute("href") === href) : place;
    if (again) again.focus({ preventScroll: true });
  }

  function exchange(old, fresh) {
    const open = new Set([...old.querySelectorAll("details[open]")].map((details) => details.id));
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    watcher.unobserve(old);
    onScreen.delete(old);
    old.replaceWith(fresh);
    for (const details of fresh.querySelectorAll("details")) details.open = open.has(details.id);
    fresh.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = scrolled[index] || 0; });
    tell(fresh);
    watcher.observe(fresh);
  }

  function parts(root) {
    return [...root.querySelectorAll("[data-part]")];
  }

  function renew(fresh) {
    const old = new Map(parts(main).map((part) => [part.dataset.part, part]));
    for (const part of parts(fresh)) {
      const name = part.dataset.part;
      const before = old.get(name);
      if (!before || sent.get(name) === part.outerHTML) continue;
      sent.set(name, part.outerHTML);
      exchange(before, part);
    }
  }

  function sort() {
    const key = ({ dataset, id }) => `${dataset.rank} ${id.replace(/\d+/g, (digits) => digits.padStart(64, "0"))} ${id}`;
    const rows = [...list.children];
    const sorted = [...rows].sort((one, other) => (key(one) < key(other) ? -1 : 1));
    sorted.forEach((row, index) => {
      if (list.children[index] !== row) list.insertBefore(row, list.children[index]);
    });
  }

  function renewRows(fresh) {
    const rows = [...fresh.children];
    for (const row of rows) {
      const before = document.getElementById(row.id);
      if (before) {
        exchange(before, row);
      } else {
        list.append(row);
        watcher.observe(row);
      }
    }
    const jobs = Number(fresh.dataset.jobs);
    if (rows.length === jobs) {
      const there = new Set(rows.map((row) => row.id));
      for (const row of [...list.children]) if (!there.has(row.id)) row.remove();
    }
    if (rows.length) sort();
    count();
    filter();
    next = list.children.length === jobs ? fresh.dataset.live : "/live";
  }

  async function news() {
    const response = await fetch(next, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const text = await response.text();
    skew = Date.parse(response.headers.get("Date")) - Date.now();
    if (Math.abs(skew) < 1500) skew = 0;
    const fresh = new DOMParser().parseFromString(text, "text/html");
    keepFocus(() => {
      renew(fresh);
      if (list) renewRows(fresh.getElementById("list"));
    });
    const title = fresh.querySelector("title");
    if (title && document.title !== title.textContent) {
      document.title = title.textContent;
      announced.textContent = title.textContent.replace(/^\W /, "");
    }
  }

  async function look() {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      await news();
      lost.hidden = true;
    } catch (error) {
      if (lost.hidden) {
        const at = new Date().toLocaleTimeString();
        lost.textContent = `The daemon has not answered since ${at} (${error.message}). What is shown is from before.`;
        lost.hidden = false;
      }
    }
    clearTimeout(timer);
    timer = setTimeout(look, EVERY);
  }

  // Begin

  for (const part of parts(main)) {
    sent.set(part.dataset.part, part.outerHTML);
    watcher.observe(part);
  }
  if (list) {
    for (const row of list.children) watcher.observe(row);
    for (const [, selector] of KINDS) button(selector);
    count();
    filter();
    field.addEventListener("input", filter);
  }
  document.addEventListener("visibilitychange", look);
  setInterval(tick, 1000);
  timer = setTimeout(look, EVERY);
})();
