// Acting: buttons and forms that change something, dialogs, toasts, copying, following links without a reload.
import { $, $$, go, make, meta, on, refresh, root } from "./kernel.js";

export function toast(text, bad) {
  const node = make("div", { class: bad ? "toast bad" : "toast" }, text);
  $("#toasts").append(node);
  setTimeout(() => node.remove(), bad ? 8000 : 4000);
}
on("ui:toast", e => toast(e.detail, true));

// Returns what the server said, after telling the user why not. `box`: a dialog that closes when it is done, before the page shows it.
export async function post(path, body = {}, box) {
  const headers = { "content-type": "application/json", "x-csrf": meta("csrf") };
  const answer = await fetch(root + path, { method: "POST", headers, body: JSON.stringify(body) }).catch(() => null), said = (await answer?.json().catch(() => null)) ?? {};
  if (answer?.ok) {
    box?.close();
    if (said.toast) toast(said.toast);
    if (said.href) await go(said.href);
    else if (!said.stay) await refresh();
    return said;
  }
  const error = said.error ?? (answer ? `Error ${answer.status}` : "The server cannot be reached");
  if (!said.param) toast(error, true);
  return { ...said, failed: true, error };
}

// Asks, and gives true only if the user says so.
export function ask(question, yes = "Confirm", no = "Keep") {
  const box = $("#ask"), [title, keep, go] = $$("h2, button", box);
  [title.textContent, keep.textContent, go.textContent, box.returnValue] = [question, no, yes, ""];
  box.showModal();
  // a close is told a moment later: when it is open by then, that was the question before
  return new Promise(resolve => (box.onclose = () => box.open || resolve(box.returnValue === "yes")));
}

export const acts = {
  // on a small screen it lies over the page, on others it leaves its icons
  menu: () => {
    if (innerWidth < 901) return $("#side").classList.toggle("open");
    document.cookie = `outlast_side=${+document.documentElement.toggleAttribute("data-folded")};path=/;max-age=31536000;samesite=lax`;
  },
  thaw: () => { acts["bulk-clear"](); $("#scroll")?.scrollTo(0, 0); refresh(); },
  dialog: node => $(`#${node.dataset.for}`)?.showModal(),
  close: node => node.closest("dialog").close(),
  "bulk-clear": () => { $$("[name=pick], [data-all]").forEach(box => (box.checked = false)); picked(); },
  "bulk-cancel": () => bulk("cancel"),
  "bulk-replay": () => bulk("replay"),
};

const chosen = () => $$("[name=pick]:checked").map(box => box.value);
function picked() {
  const bar = $("#bulk"), ids = chosen();
  if (!bar) return;
  bar.hidden = !ids.length;
  $("#picked").textContent = `${ids.length} selected`;
}
async function bulk(action) {
  const ids = chosen();
  if (!ids.length) return;
  const what = `${ids.length} run${ids.length === 1 ? "" : "s"}`;
  if (action === "cancel" && !(await ask(`Cancel ${what}?`, "Cancel them", "Keep running"))) return;
  acts["bulk-clear"]();
  await post("/runs/bulk", { action, ids });
}

on("click", async e => {
  const button = e.target.closest("[data-post], [data-copy], [data-act]"), { act, copy, post: path, confirm, yes, no, body } = button?.dataset ?? {};
  if (act) { e.preventDefault(); return acts[act]?.(button); }
  if (copy != null) return navigator.clipboard.writeText(copy).then(() => toast("Copied"), () => toast("The browser does not let us copy", true));
  if (path) {
    if (button.ariaDisabled || (confirm && !(await ask(confirm, yes, no)))) return;
    // not `disabled`, which would take the focus away
    button.ariaDisabled = true;
    await post(path, body ? JSON.parse(body) : {});
    return void (button.ariaDisabled = null);
  }
  const link = e.target.closest("a[data-soft]");
  if (link?.href && !e.metaKey && !e.ctrlKey && !e.shiftKey) { e.preventDefault(); return go(link.href); }
  for (const menu of $$("details.dd[open]")) if (!menu.contains(e.target)) menu.open = false;
  if (!e.target.closest("#side") && !e.target.closest("[data-act=menu]")) $("#side")?.classList.remove("open");
  const row = e.target.closest(".list tbody tr[id]");
  if (row && !e.target.closest("a, button, input, details") && getSelection().isCollapsed) $(".rowlink", row)?.click();
});

on("change", e => {
  if (e.target.matches("[data-all]")) $$("[name=pick]").forEach(box => (box.checked = e.target.checked));
  if (e.target.matches("[data-all], [name=pick]")) picked();
  if (e.target.matches("[data-prefer]")) {
    const value = f => (f.type === "checkbox" ? f.checked : f.value), { name } = e.target, { dataset } = document.documentElement;
    // a page loaded again would take the focus, and the rest of what is typed for shortcuts
    if (name in dataset) dataset[name] = value(e.target);
    post("/ui/preferences", Object.fromEntries($$("[data-prefer]").map(f => [f.name, value(f)])));
  }
});
on("ui:shown", picked);

// A form of filters changes the address; every other form says what it does by data-send.
let pause;
const filter = (form, ms) => {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value && name !== "pick") url.searchParams.append(name, value);
  clearTimeout(pause);
  // the address is made now: a block that comes meanwhile may put the fields back
  pause = setTimeout(() => refresh(url.href, { push: true, top: true }), ms);
};
on("input", e => {
  const { form, name, type } = e.target;
  // what somebody wrote stays until it is sent
  if (!form?.matches("[data-auto]")) e.target.typed = true;
  else if (name !== "pick") filter(form, /k|io|-/.test(type) ? 0 : 180);
});
on("submit", async e => {
  const form = e.target;
  if (form.matches("[data-auto]")) { e.preventDefault(); return filter(form); }
  if (!form.dataset.send) return;
  e.preventDefault();
  // twice pressed is once meant
  if (form.sent) return;
  form.sent = true;
  $$(".wrong", form).forEach(node => node.remove());
  $$("[aria-invalid]", form).forEach(node => (node.ariaInvalid = null));
  const body = {};
  for (const [name, value] of new FormData(form)) body[name] = name in body ? [].concat(body[name], value) : value;
  const said = await post(form.dataset.send, body, form.closest("dialog")).finally(() => (form.sent = false));
  if (said.secret) { $("#secret").hidden = false; $("#secret pre").textContent = $("#secret button").dataset.copy = said.secret; }
  if (!said.failed) {
    for (const field of form.elements) field.typed = false;
    return form.reset();
  }
  const field = said.param && (form.elements[said.param] ?? $(`[data-param="${CSS.escape(said.param)}"]`, form));
  (field?.closest?.("label") ?? form).append(make("p", { class: "wrong", role: "alert" }, said.error));
  if (field) field.ariaInvalid = true;
  field?.focus?.();
});
