// The trace: a tree grid beside a timeline. Only the rows in view exist.
import { $, $$, go, now, on, refresh } from "./kernel.js";
import { span as length } from "./elements.js";

const ROW = 28, TICKS = 5;

customElements.define("trace-view", class extends HTMLElement {
  spans = []; rows = []; folded = new Set(); drawn = new Map(); zoom = 1; picked = new URL(location.href).searchParams.get("span");

  connectedCallback() {
    [this.find, this.bad, this.slider] = $$("input", this);
    [this.ruler, this.body, this.pad] = [".tr-ruler", ".tr-body", ".tr-pad"].map(part => $(part, this));
    const grip = $(".tr-split", this);
    this.find.oninput = this.bad.onchange = () => this.flatten();
    this.slider.oninput = () => this.scale(2 ** this.slider.value);
    this.body.onscroll = () => this.draw();
    this.onkeydown = e => this.key(e);
    this.onclick = e => this.click(e);
    this.body.onwheel = e => { if (e.ctrlKey) { e.preventDefault(); this.scale(this.zoom * (e.deltaY < 0 ? 1.25 : 0.8), e); } };
    const widen = n => this.style.setProperty("--tree", `${(grip.ariaValueNow = Math.max(15, Math.min(80, n)))}%`);
    grip.onkeydown = e => { const n = { ArrowLeft: -4, ArrowRight: 4 }[e.key]; if (n) { e.stopPropagation(); widen(+grip.ariaValueNow + n); } };
    grip.onpointerdown = e => grip.setPointerCapture(e.pointerId);
    grip.onpointermove = e => { if (grip.hasPointerCapture(e.pointerId)) widen(((e.clientX - this.getBoundingClientRect().left) / this.clientWidth) * 100); };
    (this.sight = new ResizeObserver(() => this.draw())).observe(this.body);
    this.timer = setInterval(() => this.open && !document.hidden && this.draw(), 250);
    on("ui:changed", (this.changed = () => this.load()));
    this.load();
  }

  disconnectedCallback() {
    clearInterval(this.timer);
    this.sight.disconnect();
    document.removeEventListener("ui:changed", this.changed);
  }

  async load() {
    const answer = await fetch(this.getAttribute("src"), { headers: this.tag ? { "if-none-match": this.tag } : {} }).catch(() => null);
    if (!answer?.ok) return;
    this.tag = answer.headers.get("etag");
    const said = await answer.json().catch(() => null);
    if (!said) return;
    this.spans = said.spans.map(values => Object.fromEntries(said.fields.map((name, i) => [name, values[i]])));
    this.open = this.spans.some(s => s.end === null);
    this.flatten();
  }

  // The tree as a list of what is unfolded and found.
  flatten() {
    const kids = new Map(), text = this.find.value.toLowerCase(), wanted = new Set(), all = new Map(this.spans.map(s => [s.id, s]));
    for (const s of this.spans) (kids.get(s.parent) ?? kids.set(s.parent, []).get(s.parent)).push(s);
    const filtered = text || this.bad.checked;
    if (filtered) for (const s of this.spans) if (s.name.toLowerCase().includes(text) && (!this.bad.checked || s.status === "bad")) for (let up = s; up && !wanted.has(up.id); up = all.get(up.parent)) wanted.add(up.id);
    const rows = [], walk = (parent, depth) => {
      for (const s of (kids.get(parent) ?? []).sort((a, b) => a.start - b.start)) {
        if (filtered && !wanted.has(s.id)) continue;
        if (this.noqueue && s.kind === "queue") continue;
        rows.push({ s, depth, kids: kids.has(s.id) });
        if (!this.folded.has(s.id)) walk(s.id, depth + 1);
      }
    };
    walk(null, 0);
    this.rows = rows;
    this.pad.style.height = `${rows.length * ROW}px`;
    this.draw();
  }

  click(e) {
    const row = e.target.closest(".tr");
    if (!row) return;
    if (e.target.matches(".tw")) return this.fold(row.dataset.id);
    this.pick(row.dataset.id);
  }

  fold(id, yes = !this.folded.has(id)) { yes ? this.folded.add(id) : this.folded.delete(id); this.flatten(); }

  pick(id) {
    this.picked = id;
    this.draw();
    const url = new URL(location.href);
    url.searchParams.set("span", id);
    history.replaceState({}, "", url);
    clearTimeout(this.soon);
    this.soon = setTimeout(refresh, 60);
  }

  scale(zoom, e) {
    this.zoom = Math.max(1, Math.min(32, zoom));
    this.slider.value = Math.log2(this.zoom);
    const width = this.ruler.clientWidth, at = e ? (e.clientX - this.ruler.getBoundingClientRect().left) / width : 0.5;
    const [from, to] = this.window ?? [0, 1], middle = from + (to - from) * at, wide = 1 / this.zoom, left = Math.max(0, Math.min(1 - wide, middle - wide * at));
    this.window = [left, left + wide];
    this.draw();
  }

  level(n) { this.folded.clear(); this.flatten(); for (const { s, depth, kids } of this.rows) if (kids && depth >= n) this.folded.add(s.id); this.flatten(); }

  key(e) {
    if (e.target === this.find || e.target === this.slider || e.metaKey || e.ctrlKey || e.altKey) return;
    const i = this.rows.findIndex(r => r.s.id === this.picked), row = this.rows[i];
    const to = n => { n = Math.max(0, Math.min(this.rows.length - 1, n)); this.show(n); this.pick(this.rows[n].s.id); };
    const keys = {
      ArrowDown: () => to(i + 1), ArrowUp: () => to(i - 1), Home: () => to(0), End: () => to(this.rows.length - 1),
      ArrowLeft: () => row && (row.kids && !this.folded.has(row.s.id) ? this.fold(row.s.id, true) : row.s.parent && to(this.rows.findIndex(r => r.s.id === row.s.parent))),
      ArrowRight: () => row?.kids && (this.folded.has(row.s.id) ? this.fold(row.s.id, false) : to(i + 1)),
      Enter: () => row?.s.href && go(this.dataset.root + row.s.href),
      e: () => this.level(99), w: () => this.level(0), q: () => { this.noqueue = !this.noqueue; this.flatten(); }, "[": () => this.scale(this.zoom / 2), "]": () => this.scale(this.zoom * 2),
    };
    const act = keys[e.key] ?? (/^\d$/.test(e.key) ? () => this.level(+e.key) : null);
    if (act && this.rows.length) { e.preventDefault(); act(); }
  }

  show(n) {
    const y = n * ROW, { scrollTop, clientHeight } = this.body;
    if (y < scrollTop) this.body.scrollTop = y;
    if (y > scrollTop + clientHeight - ROW) this.body.scrollTop = y - clientHeight + ROW;
  }

  bounds() {
    let from = Infinity, to = 0, t = now();
    for (const s of this.spans) if (!(this.noqueue && (s.kind === "queue" || s.parent === null))) { from = Math.min(from, s.start); to = Math.max(to, s.end ?? t); }
    const wide = Math.max(20, to - from) * 1.02, [a, b] = this.window ?? [0, 1];
    return [from + wide * a, wide * (b - a), t];
  }

  draw() {
    if (!this.rows.length) return;
    const [from, wide, t] = this.bounds(), x = at => ((at - from) / wide) * 100, seen = new Set();
    [...this.ruler.children].forEach((tick, i) => { tick.style.left = `${((i + 1) / (TICKS + 1)) * 100}%`; tick.textContent = length(from - this.spans[0].start + (wide * (i + 1)) / (TICKS + 1)); });
    const first = Math.max(0, Math.floor(this.body.scrollTop / ROW) - 4), last = Math.min(this.rows.length, first + Math.ceil(this.body.clientHeight / ROW) + 8);
    for (let i = first; i < last; i++) { seen.add(this.rows[i].s.id); this.paint(i, x, t); }
    for (const [id, node] of this.drawn) if (!seen.has(id)) { node.remove(); this.drawn.delete(id); }
    this.pad.ariaRowCount = this.rows.length;
  }

  paint(i, x, t) {
    const { s, depth, kids } = this.rows[i], closed = this.folded.has(s.id), end = s.end ?? t, point = s.kind === "log";
    const node = this.drawn.get(s.id) ?? this.row(s), [name, line] = node.children, [tw, kd, nm, dur] = name.children, bar = line.lastChild;
    node.style.top = `${i * ROW}px`;
    name.style.paddingLeft = `${6 + depth * 16}px`;
    const put = (n, text) => n.textContent !== text && (n.textContent = text);
    [node.ariaLevel, node.ariaRowIndex, node.ariaSelected, node.ariaExpanded] = [depth + 1, i + 1, s.id === this.picked, kids ? !closed : null];
    const look = `k-${point ? s.note : s.kind}${s.status === "bad" ? " s-bad" : ""}`;
    put(tw, kids ? (closed ? "▸" : "▾") : "");
    put(nm, s.name);
    put(dur, point ? s.note : length(end - s.start));
    kd.className = `kd ${look}`;
    bar.className = `${point ? "tr-pt" : "tr-bar"} ${look}`;
    bar.style.left = `${x(s.start)}%`;
    bar.style.width = point ? "" : `${x(end) - x(s.start)}%`;
  }

  row(s) {
    const node = $("template", this).content.firstElementChild.cloneNode(true);
    $$("i", node).forEach((mark, i) => (mark.style.left = `${((i + 1) / (TICKS + 1)) * 100}%`));
    node.dataset.id = s.id;
    this.drawn.set(s.id, node);
    this.pad.append(node);
    return node;
  }
});
