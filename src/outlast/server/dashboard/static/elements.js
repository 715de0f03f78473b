// Small elements: times that tick, and charts whose bars can be dragged into a period.
import { $$, go, make, now } from "./kernel.js";

export function span(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  if (ms < 60000) return `${(Math.floor(ms / 100) / 10).toFixed(1)}s`;
  const parts = [["d", 864e5, 1e9], ["h", 36e5, 24], ["m", 6e4, 60], ["s", 1e3, 60]].map(([name, size, wrap]) => [name, Math.floor(ms / size) % wrap]);
  const first = parts.findIndex(([, n]) => n);
  return parts.slice(first, first + 2).filter(([, n]) => n).map(([name, n]) => n + name).join(" ");
}

const ticking = new Set();
class Ticking extends HTMLElement {
  connectedCallback() { ticking.add(this); this.tick(); }
  disconnectedCallback() { ticking.delete(this); }
  show(text) { if (this.textContent !== text) this.textContent = text; }
}
setInterval(() => { if (!document.hidden) for (const node of ticking) node.tick(); }, 250);

customElements.define("run-timer", class extends Ticking {
  tick() { const { start, end } = this.dataset; this.show(start ? span((+end || now()) - start) : "–"); }
});
customElements.define("rel-time", class extends Ticking {
  tick() {
    const s = (now() - this.dataset.t) / 1000, a = Math.abs(s);
    const text = a < 60 ? `${Math.floor(a)}s` : a < 3600 ? `${Math.floor(a / 60)}m` : a < 86400 ? `${Math.floor(a / 3600)}h` : `${Math.floor(a / 86400)}d`;
    this.show(s >= 0 || a < 1 ? `${s < 0 ? "0s" : text} ago` : `in ${text}`);
  }
});

customElements.define("bar-chart", class extends HTMLElement {
  connectedCallback() {
    if (!this.classList.contains("hist")) return;
    let from = null, mark;
    const place = (e) => { const box = this.firstElementChild.getBoundingClientRect(), bars = $$("g", this); return { bars, i: Math.max(0, Math.min(bars.length - 1, Math.floor(((e.clientX - box.left) / box.width) * bars.length))), box }; };
    this.addEventListener("pointerdown", (e) => { from = place(e).i; this.setPointerCapture(e.pointerId); this.append((mark = make("div", { class: "brush" }))); });
    this.addEventListener("pointermove", (e) => {
      if (from === null) return;
      const { i, bars, box } = place(e), [a, b] = [Math.min(from, i), Math.max(from, i)], left = this.firstElementChild.offsetLeft;
      mark.style.left = `${left + (a / bars.length) * box.width}px`;
      mark.style.width = `${((b - a + 1) / bars.length) * box.width}px`;
    });
    this.addEventListener("pointerup", (e) => {
      if (from === null) return;
      const { i, bars } = place(e), url = new URL(this.dataset.to ?? location.href, location.href);
      mark.remove();
      for (const name of ["period", "after", "before"]) url.searchParams.delete(name);
      url.searchParams.set("from", bars[Math.min(from, i)].dataset.start);
      url.searchParams.set("to", bars[Math.max(from, i)].dataset.end);
      from = null;
      go(url.href);
    });
  }
});
