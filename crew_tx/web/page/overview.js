// All workers, what runs, queues, errors and dead letters.

import { duration, queue, rate, short, size, time, whole, worker as nameOf } from "./format.js";
import { Table, element, say } from "./table.js";

const MOST_RATES = 60;
const HEIGHT = 16;
const SHOWN_ACTIVE = 100;

/** The words for how a worker is. */
export function stateOf(worker) {
  if (worker.silent) return "does not answer";
  const words = [];
  if (worker.draining) words.push("drains");
  else if (worker.paused) words.push("paused");
  if (worker.stuck) words.push(`${worker.stuck} stuck`);
  return words.join(", ") || (worker.in_progress || worker.rate ? "works" : "idle");
}

/** The class that goes with it. */
export function markOf(worker) {
  if (worker.silent || worker.stuck) return "bad";
  return worker.paused || worker.draining ? "warn" : "good";
}

/** A link to a worker's own view. */
export function workerLink(wid) {
  const link = element("a");
  link.href = `#worker/${encodeURIComponent(wid)}`;
  return link;
}

/** A button for one row. */
export function button(title, pressed, label) {
  const made = element("button", title, "order");
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", pressed);
  return made;
}

const byId = (id) => document.getElementById(id);
const byKey = (key) => (one, other) => (one[key] < other[key] ? -1 : one[key] > other[key] ? 1 : 0);

/** The first view. `actions` has what its buttons do. */
export class OverviewPage {
  constructor(actions) {
    this.rates = [];
    this.seen = null;
    const workerId = {
      title: "Worker",
      value: (row) => nameOf(row.wid),
      make: (row) => workerLink(row.wid),
      mark: () => "short",
    };
    this.workers = new Table(
      byId("workers"),
      "Workers",
      [
        workerId,
        { title: "State", value: stateOf, mark: markOf },
        { title: "Busy", value: (row) => `${row.busy} of ${row.threads}`, isNumber: true },
        { title: "Calls/s", value: (row) => rate(row.rate), isNumber: true },
        { title: "Wait", value: (row) => duration(row.wait), isNumber: true },
        { title: "Done", value: (row) => whole(row.processed), isNumber: true },
        { title: "Failed", value: (row) => whole(row.exceptions), isNumber: true },
        { title: "Timed out", value: (row) => whole(row.timeouts), isNumber: true },
        { title: "Host", value: (row) => `${row.host}, ${row.pid}`, mark: () => "long" },
      ],
      (row) => row.wid,
      "No workers are there.",
    );
    this.active = new Table(
      byId("active"),
      "What runs",
      [
        { title: "Task", value: (row) => row.task, mark: () => "name" },
        { title: "Runs for", value: (row) => duration(row.seconds), isNumber: true },
        { title: "State", value: (row) => (row.stuck ? "stuck" : "runs"), mark: (row) => (row.stuck ? "bad" : "") },
        workerId,
        { title: "Thread", value: (row) => short(row.thread), mark: () => "short" },
        { title: "Caller", value: (row) => (row.caller ? nameOf(row.caller) : "one way"), mark: () => "short" },
        { title: "Call", value: (row) => row.id, mark: () => "id" },
        {
          title: "",
          value: (row) => (row.stuck ? "" : "Cancel"),
          make: (row) => button("Cancel", () => actions.cancel(row), `Cancel call ${row.id}`),
        },
      ],
      (row) => `${row.wid} ${row.id}`,
      "Nothing runs just now.",
    );
    this.queues = new Table(
      byId("queues"),
      "Queues",
      [
        { title: "Queue", value: (row) => queue(row.queue), mark: () => "name" },
        { title: "Waiting", value: (row) => whole(row.messages), isNumber: true },
        { title: "Consumers", value: (row) => whole(row.consumers), isNumber: true },
        {
          title: "State",
          value: (row) => (row.messages && !row.consumers ? "nobody takes from it" : row.messages ? "waits" : "empty"),
          mark: (row) => (row.messages && !row.consumers ? "bad" : ""),
        },
      ],
      (row) => row.queue,
      "No queues are known.",
    );
    this.errors = new Table(
      byId("errors"),
      "Recent errors",
      [
        { title: "When", value: (row) => time(row.time), mark: () => "short" },
        { title: "Task", value: (row) => row.task, mark: () => "name" },
        { title: "What", value: (row) => short(row.kind), mark: () => "short" },
        { title: "Error", value: (row) => [row.type, row.message].filter(Boolean).join(": "), mark: () => "long" },
        workerId,
        { title: "Call", value: (row) => row.id, mark: () => "id" },
      ],
      (row) => `${row.wid} ${row.id} ${row.time}`,
      "No errors lately.",
    );
    this.letters = new Table(
      byId("letters"),
      "Dead letters",
      [
        { title: "Task", value: (row) => row.task || "not a call", mark: () => "name" },
        { title: "Why", value: (row) => row.reason },
        { title: "Age", value: (row) => duration(row.age), isNumber: true },
        { title: "Size", value: (row) => size(row.size), isNumber: true },
        { title: "Call", value: (row) => row.id || "–", mark: () => "id" },
        {
          title: "",
          value: (row) => (row.task && row.id ? "Requeue" : ""),
          make: (row) => button("Requeue", () => actions.requeue(row.id), `Requeue call ${row.id}`),
        },
      ],
      (row) => row.key,
      "",
    );
    byId("dead-show").addEventListener("click", actions.showLetters);
    byId("dead-requeue").addEventListener("click", () => actions.requeue(null));
  }

  show(snapshot) {
    const { age, workers, active, queues, errors, more } = snapshot;
    // Before the first look, nothing there is not the same as none.
    const unseen = age === null ? "Nothing was seen yet." : undefined;
    this.workers.show([...workers].sort(byKey("wid")), more.workers, unseen);
    const shown = active.slice(0, SHOWN_ACTIVE);
    this.active.show(shown, active.length - shown.length + more.active, unseen);
    this.queues.show(queues, more.queues, unseen);
    this.errors.show(errors, 0, unseen);
    this.showFigures(snapshot);
  }

  /** Letters as they were when they were asked for. */
  showLetters(letters, left) {
    say(byId("dead-listed"), letters.length ? `As they were at ${time(Date.now() / 1000)}:` : "");
    this.letters.show(letters.map((letter, index) => ({ ...letter, key: `${letter.id} ${index}` })), left);
  }

  showFigures({ age, time: told, workers, queues, dead }) {
    const sum = (name) => workers.reduce((total, worker) => total + (worker[name] || 0), 0);
    const seen = (number) => (age === null ? null : number);
    say(byId("figure-workers"), whole(seen(workers.length)));
    say(byId("figure-busy"), `${whole(seen(sum("busy")))} of ${whole(seen(sum("threads")))}`);
    say(byId("figure-waiting"), whole(seen(queues.reduce((total, each) => total + each.messages, 0))));
    this.showFigure("figure-stuck", seen(sum("stuck")));
    this.showFigure("figure-dead", dead);
    const words = dead === null ? "How many there are is not known." : dead ? "" : "There are none.";
    say(byId("dead-words"), words || "Calls that were not taken in time, or refused, and whose callers are gone.");
    byId("dead-show").disabled = !dead;
    byId("dead-requeue").disabled = !dead;
    if (dead === 0) this.showLetters([], 0);
    this.showRate(seen(sum("rate")), told - age);
  }

  showFigure(id, number) {
    say(byId(id), whole(number));
    byId(id).className = number ? "bad" : "";
  }

  /** One point for each look. */
  showRate(total, looked) {
    say(byId("figure-rate"), rate(total));
    if (total === null || looked === this.seen) return;
    this.seen = looked;
    this.rates = [...this.rates, total].slice(-MOST_RATES);
    const highest = Math.max(1, ...this.rates);
    const first = MOST_RATES - this.rates.length;
    const points = this.rates.map((each, index) => {
      const height = HEIGHT - 1 - (each / highest) * (HEIGHT - 2);
      return `${first + index},${height.toFixed(1)}`;
    });
    byId("sparkline").firstElementChild.setAttribute("points", points.join(" "));
  }
}
