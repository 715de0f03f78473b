// The keyboard: every control with data-key is reached by it, lists by arrows, and ⌘K finds the rest.
import { $, $$, go, make, on, root } from "./kernel.js";
import { acts } from "./acts.js";

const typing = node => node.matches("input:not([type=checkbox], [type=radio], [type=range]), textarea, select");
const words = node => (node.getAttribute("aria-label") || node.placeholder || [...(node.closest("label") ?? node).childNodes].filter(n => n.localName !== "kbd").map(n => n.textContent).join(" ")).trim().replace(/\s+/g, " ");
const arrow = /^Arrow[DU]/;
let chord = "", timer;

on("keydown", e => {
  if (e.defaultPrevented) return;
  // until the next frame a dialog that closed keeps the focus in its field: the key is meant for the page
  if (!e.target.checkVisibility()) return e.target.blur(), document.body.dispatchEvent(new KeyboardEvent("keydown", e)) || e.preventDefault();
  const mod = e.metaKey || e.ctrlKey, key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
  if (mod) return command(e, key);
  if ($("dialog[open]")) return;
  if (e.altKey) return e.code === "KeyF" && press(e, "alt+f");
  if (key === "Escape") return escape(e);
  const menu = e.target.closest("details.dd[open]");
  if (menu && inside(e, menu, key)) return;
  if (typing(e.target)) return;
  if (rows(e, key)) return;
  if ($("[data-keys=false]") && key !== "?") return;
  const combination = chord + key;
  clearTimeout(timer);
  chord = !chord && key === "g" ? "g " : "";
  if (chord) return void (timer = setTimeout(() => (chord = ""), 1200));
  press(e, combination);
});

function press(e, combination) {
  const node = $$(`[data-key="${CSS.escape(combination)}"]`).find(n => n.offsetParent || n.closest("#side, details"));
  // what has no key of its own is for the trace, wherever the focus is
  if (!node) return (e.key.length > 1 && e.target.closest("a, button, aside")) || $("trace-view")?.key(e);
  if (node.ariaDisabled === "true") return;
  e.preventDefault();
  use(node);
}

function use(node) {
  const menu = node.matches("summary") && node.parentElement;
  if (menu) { menu.open = true; ($("input:checked, input, a, select", menu) ?? node).focus(); }
  else if (typing(node)) { node.focus(); node.select?.(); }
  else node.click();
}

function command(e, key) {
  if (key === "Enter") {
    const button = !$("dialog[open]") && $("[data-key='mod+Enter']"), form = e.target.closest("form") ?? $("form[data-send]");
    if (button || form) { e.preventDefault(); button ? button.click() : form.requestSubmit(); }
  }
  const act = { k: "palette", b: "menu" }[key];
  if (act) { e.preventDefault(); acts[act](); }
}

function escape(e) {
  const menu = $("details.dd[open]");
  if (menu) return (menu.open = false), $("summary", menu).focus();
  if (typing(e.target)) return e.target.blur();
  if ($("[name=pick]:checked")) return $("[data-act=bulk-clear]")?.click();
  $("[data-key=Escape]")?.click();
}

// In an open menu: arrows move, digits choose.
function inside(e, menu, key) {
  const items = $$(".menu input, .menu a, .menu button, .menu select", menu), at = items.indexOf(document.activeElement);
  if (arrow.test(key)) { e.preventDefault(); items[(at + (key === "ArrowDown" ? 1 : -1) + items.length) % items.length]?.focus(); return true; }
  if (/^[1-9]$/.test(key) && !typing(e.target)) { items[key - 1]?.click(); return true; }
}

// The list: arrows move a mark and the focus, so that Tab goes to what the row offers; Enter opens, Space ticks.
function rows(e, key) {
  const acting = [" ", "Enter"].includes(key);
  if (!acting && !["ArrowDown", "ArrowUp", "Home", "End"].includes(key) || e.target.closest(acting ? "trace-view, summary, button, input, a:not(.rowlink)" : "trace-view")) return;
  const all = $$(".list tbody tr[id]"), at = all.findIndex(row => row.matches(".cur"));
  if (!all.length) return;
  e.preventDefault();
  if (acting) $(key === " " ? "[name=pick]" : ".rowlink", all[at])?.click();
  else mark(all[{ ArrowDown: at + 1, ArrowUp: Math.max(0, at - 1), Home: 0 }[key] ?? Infinity] ?? all.at(-1), all[at]);
  return true;
}
function mark(row, old) {
  old?.classList.remove("cur");
  row.classList.add("cur");
  $(".rowlink, button, summary", row)?.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
  sessionStorage.setItem("cur" + location.pathname, row.id);
}
on("ui:shown", () => {
  const row = document.getElementById(sessionStorage.getItem("cur" + location.pathname));
  if (row && !$("tr.cur")) document.activeElement.matches("main, body") ? mark(row) : row.classList.add("cur");
});

acts.help = () => {
  const shown = new Map($$("[data-key]").map(n => [n.dataset.key, words(n)]));
  $$("#help .made").forEach(row => row.remove());
  $("#help dl").prepend(...[...shown].map(([key, what]) => make("div", { class: "made" }, make("dt", {}, make("kbd", {}, key.replace("mod", "⌘/Ctrl"))), make("dd", {}, what))));
  $("#help").showModal();
};

// The palette: pages and buttons of this page, and what the server finds.
acts.palette = () => {
  const box = $("#palette"), input = $("input", box), list = $("ul", box);
  const fixed = $$("#side a:not(.brand), #side button, main :is(button, summary, .btn, .copy, .tabs a, [data-key])").filter(n => words(n) && n.ariaDisabled !== "true" && !n.closest("dialog, tbody, .menu.wide, [hidden]")).map(n => ({ text: words(n), hint: n.dataset.key, run: () => use(n) }));
  let found = [], at = 0, asked = 0;
  const choose = item => { box.close(); item?.run(); };
  const draw = () => {
    at = Math.max(0, Math.min(at, found.length - 1));
    list.replaceChildren(...found.map((item, i) => {
      const row = make("li", { role: "option", id: `pal-${i}`, "aria-selected": i === at }, item.text, make("small", {}, item.hint ?? ""));
      row.onclick = () => choose(item);
      return row;
    }));
    input.setAttribute("aria-activedescendant", `pal-${at}`);
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const look = async () => {
    const text = input.value.trim(), mine = ++asked;
    found = fixed.filter(item => item.text.toLowerCase().includes(text.toLowerCase()));
    at = 0;
    draw();
    if (!text) return;
    const more = await fetch(`${root}/ui/find?q=${encodeURIComponent(text)}`).then(r => r.json()).catch(() => []);
    if (mine !== asked) return;
    found = [...found, ...more.map(item => ({ ...item, run: () => go(root + item.href) }))];
    draw();
  };
  input.value = "";
  input.oninput = look;
  input.onkeydown = e => {
    if (e.key === "Enter") { e.preventDefault(); choose(found[at]); }
    if (arrow.test(e.key)) { e.preventDefault(); at += e.key === "ArrowDown" ? 1 : -1; draw(); }
  };
  look();
  box.showModal();
};
