// Small elements: times that tick, and charts whose bars can be dragged into a period.
import { $$, go, now } from "./kernel.js";

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
    const [n, unit] = a < 60 ? [a, "s"] : a < 3600 ? [a / 60, "m"] : a < 86400 ? [a / 3600, "h"] : [a / 86400, "d"], text = Math.floor(n) + unit;
    this.show(s >= 0 || a < 1 ? `${text} ago` : `in ${text}`);
  }
});

// Dragging over bars chooses their time.
customElements.define("bar-chart", class extends HTMLElement {
  connectedCallback() {
    if (!this.matches(".hist")) return;
    let from = -1, bars;
    const mark = e => {
      const box = this.firstElementChild.getBoundingClientRect(), at = Math.floor(((e.clientX - box.left) / box.width) * bars.length);
      bars.forEach((bar, i) => bar.classList.toggle("in", i >= Math.min(from, at) && i <= Math.max(from, at)));
      return Math.max(0, Math.min(bars.length - 1, at));
    };
    this.onpointerdown = e => { bars = $$("g", this); from = mark(e); mark(e); this.setPointerCapture(e.pointerId); };
    this.onpointermove = e => from >= 0 && mark(e);
    this.onpointerup = () => {
      const chosen = bars.filter(bar => bar.matches(".in")), url = new URL(this.dataset.to ?? location.href, location.href);
      from = -1;
      for (const name of ["period", "after", "before"]) url.searchParams.delete(name);
      url.searchParams.set("from", chosen[0].dataset.start);
      url.searchParams.set("to", chosen.at(-1).dataset.end);
      go(url.href);
    };
  }
});
