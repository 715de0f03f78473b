// The kernel: fetch the live block of this page again when the server says that it changed, and morph it in.
const policy = globalThis.trustedTypes?.createPolicy("ui-fragment", { createHTML: text => text });
export const
  $ = (selector, root = document) => root.querySelector(selector),
  $$ = (selector, root = document) => [...root.querySelectorAll(selector)],
  on = (event, act, target = document) => target.addEventListener(event, act),
  emit = (event, detail) => document.dispatchEvent(new CustomEvent(event, { detail })),
  meta = name => $(`meta[name=${name}]`)?.content ?? "",
  root = $(".brand")?.getAttribute("href").replace(/\/$/, "") ?? "";

// The only place where text becomes elements; it comes from our own server, which escaped it.
export function parse(text) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(text) : text;
  return template.content;
}

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Make a look like b: same nodes where they can stay, so that focus, open menus, ticks and half-written text stay too.
export function morph(a, b) {
  if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName) return void a.replaceWith(b);
  if (a.nodeType === 3) return void (a.data !== b.data && (a.data = b.data));
  if (a.nodeType !== 1 || ("preserve" in a.dataset && a.dataset.preserve === b.dataset.preserve)) return;
  attributes(a, b);
  if (a.matches("input, textarea, select")) return void field(a, b);
  if (a.tick) return a.tick();
  children(a, b);
}

function attributes(a, b) {
  for (const { name, value } of [...b.attributes]) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
  for (const { name } of [...a.attributes]) {
    const ours = name === "open" || (name === "class" && a.localName === "tr") || (name === "hidden" && a.id === "bulk");
    if (!b.hasAttribute(name) && !ours) a.removeAttribute(name);
  }
}

function field(a, b) {
  if (a === document.activeElement || a.name === "pick" || a.typed) return;
  if (a.type === "checkbox" || a.type === "radio") a.checked = b.checked;
  else if (a.localName === "select") children(a, b), (a.value = b.value);
  else a.value = b.value;
}

function children(a, b) {
  // what is gone goes first: what stays then need not move, and what moves loses the focus
  const stay = new Set([...b.children].map(c => c.id)), keyed = new Map([...a.children].filter(c => c.id && (stay.has(c.id) || c.remove())).map(c => [c.id, c]));
  let at = a.firstChild;
  for (const next of [...b.childNodes]) {
    const known = next.id && keyed.get(next.id);
    if (known) {
      if (known === at) at = at.nextSibling;
      else (a.moveBefore ?? a.insertBefore).call(a, known, at);
      morph(known, next);
    } else if (at && !at.id && !next.id && at.nodeName === next.nodeName) {
      const after = at.nextSibling;
      morph(at, next);
      at = after;
    } else {
      if (next.localName === "tr" && next.id) next.classList.add("flash");
      a.insertBefore(next, at);
    }
  }
  while (at) { const after = at.nextSibling; at.remove(); at = after; }
}

// the server's clock is the clock
const skew = meta("now") - Date.now();
export const now = () => Date.now() + skew;

let request, moving, steps = 0, tags = {};
// Fetch the live block and show it. `push`: it is a step of the user's, which Back undoes. `wait`: nobody asked for it now.
export async function refresh(url = location.href, { push, top, wait } = {}) {
  // a step of the user's is never overtaken
  if (moving && !push) return void (dirty = true);
  moving = push;
  request?.abort();
  const mine = (request = new AbortController()), target = new URL(url, location.href);
  if (!push) freeze(target);
  const known = tags[target.href];
  const answer = await fetch(target, { headers: { "x-fragment": "live", ...(known && !push ? { "if-none-match": known } : {}) }, signal: mine.signal }).catch(() => null), text = await answer?.text().catch(() => null);
  if (mine !== request) return;
  moving = false;
  if (answer?.status === 304) return;
  // not reached, or a menu was opened meanwhile: later
  if (text == null || (wait && busy())) return void (dirty = true);
  if (answer.status === 401) return location.reload();
  if (!answer.ok && answer.status !== 404) return emit("ui:toast", `Could not refresh (${answer.status})`);
  const html = parse(text), block = $("#live", html);
  if (!block) return location.assign(url);
  tags = { [target.href]: answer.headers.get("etag") };
  if (push) history.pushState({}, "", url);
  say(html);
  for (const id of ["#notes", "#live"]) morph($(id), $(id, html));
  if (top) $("#scroll")?.scrollTo(0, 0);
  emit("ui:shown");
}

// A list somebody reads does not move: new rows wait behind a button.
function freeze(target) {
  const scroll = $("#scroll"), first = $("tbody tr[id^=run_]")?.id;
  if (location.pathname.endsWith("/runs") && first && !target.searchParams.has("after") && !target.searchParams.has("before") && (scroll.scrollTop > 8 || $("[name=pick]:checked"))) target.searchParams.set("upto", first);
}

// What changed, for those who hear the page.
function say(html) {
  const fresh = $$("tbody tr[id]", html).filter(row => !document.getElementById(row.id)).length, before = $("#live tbody tr[id]");
  if (before && fresh) $("#said").textContent = `${fresh} new ${fresh === 1 ? "row" : "rows"}`;
}

const busy = () => $("dialog[open], details.dd[open]") || !getSelection().isCollapsed || document.activeElement?.closest("form.sheet, [data-hold]");

const state = (name, text) => { const dot = $("#live-dot"); dot.dataset.state = name; if (dot.textContent !== text) dot.textContent = text; };
let source, dirty = false;
export function listen() {
  const topics = $("#main").dataset.topics;
  source?.close();
  if (!topics) return state("live", "Ready");
  source = new EventSource(`${root}/ui/events?topics=${encodeURIComponent(topics)}`);
  const changed = () => { dirty = true; flush(); emit("ui:changed"); };
  // what happened between the drawing of the page and this moment was said to nobody
  on("hello", () => { state("live", "Live"); changed(); }, source);
  on("changed", changed, source);
  source.onerror = () => {
    state("connecting", "Reconnecting…");
    dirty = true;
    // refused, not broken off: signed out, perhaps
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { listen(); busy() || refresh(); }, 1000);
  };
}

function flush() {
  if (!dirty || busy() || $("#live-dot").dataset.state !== "live") return;
  dirty = false;
  refresh(undefined, { wait: true });
}

export function live() {
  if (!$("#live")) return;
  listen();
  setInterval(flush, 400);
  on("visibilitychange", () => {
    if (!document.hidden) return (dirty = true), listen();
    source?.close();
    state("paused", "Paused");
  });
  on("popstate", () => go(location.href, false), window);
}

// Another page of ours without loading everything again: title, topics and the live block are what differs.
export async function go(url, push = true) {
  const here = new URL(location.href), there = new URL(url, here), mine = ++steps;
  if (push && there.pathname === here.pathname) return refresh(there.href, { push, top: true });
  const answer = await fetch(there).catch(() => null), text = await answer?.text().catch(() => null);
  // the step that was asked for last counts, not the one that is answered last
  if (mine !== steps) return;
  if (!text) return location.assign(there);
  const html = parse(text), block = $("#live", html);
  if (!block || new URL(answer.url).pathname !== there.pathname) return location.assign(there);
  request?.abort();
  if (push) history.pushState({}, "", there);
  document.title = $("title", html).text;
  $("#side").replaceWith($("#side", html));
  $("#main").replaceWith($("#main", html));
  tags = {};
  ($("#main [autofocus]:not(dialog *)") ?? $("#main")).focus({ preventScroll: true });
  listen();
  emit("ui:shown");
}
