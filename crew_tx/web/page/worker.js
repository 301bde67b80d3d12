// One worker: what it runs, where its threads are, and orders to it.

import { duration, rate, time, whole, worker as nameOf } from "./format.js";
import { button, markOf, stateOf } from "./overview.js";
import { element, keep, say, show } from "./table.js";

/** Milliseconds between two looks at stacks. */
const INTERVAL = 2000;

const byId = (id) => document.getElementById(id);

/** The view of one worker. `actions` has what its buttons do, and `look(wid)`, a promise of its stacks. */
export class WorkerPage {
  constructor(actions) {
    this.actions = actions;
    this.wid = null;
    this.timer = null;
    this.facts = new Map();
    this.calls = new Map();
    this.tasks = new Map();
    for (const name of ["pause", "resume", "drain"]) {
      byId(`worker-${name}`).addEventListener("click", () => actions[name](this.wid));
    }
  }

  /** Show this worker, from now until `close`. */
  open(wid) {
    this.close();
    this.wid = wid;
    say(byId("worker-title"), nameOf(wid));
    say(byId("worker-id"), wid);
    say(byId("stacks-words"), "Looking");
    this.look();
  }

  close() {
    clearTimeout(this.timer);
    this.wid = null;
    this.showCalls([]);
    this.showTasks([]);
  }

  /** What the last snapshot says of it. */
  show({ workers }) {
    const worker = workers.find((each) => each.wid === this.wid);
    const words = byId("worker-words");
    say(words, worker ? stateOf(worker) : "It is not there: it has left, or was never there.");
    words.className = worker ? markOf(worker) : "bad";
    const pairs = worker ? factsOf(worker) : [];
    keep(byId("facts"), this.facts, pairs, (pair) => pair[0], makeFact, (made, pair) => say(made.lastChild, pair[1]));
    show(byId("worker-pause"), Boolean(worker && !worker.paused && !worker.draining));
    show(byId("worker-resume"), Boolean(worker && worker.paused && !worker.draining));
    show(byId("worker-drain"), Boolean(worker && !worker.draining));
  }

  async look() {
    const wid = this.wid;
    this.timer = setTimeout(() => this.look(), INTERVAL);
    if (document.hidden) return;
    try {
      const { stacks, tasks } = await this.actions.look(wid);
      if (wid !== this.wid) return;
      this.showCalls(stacks ?? []);
      this.showTasks(tasks ?? []);
      say(byId("stacks-words"), wordsFor(stacks));
    } catch (error) {
      if (wid !== this.wid) return;
      say(byId("stacks-words"), `No stacks: ${error.message}`);
    }
  }

  showCalls(calls) {
    const make = (call) => this.makeCall(call);
    keep(byId("stacks"), this.calls, calls, (call) => `${call.id} ${call.thread}`, make, updateCall);
  }

  showTasks(tasks) {
    keep(byId("tasks"), this.tasks, [...tasks].sort(), (task) => task, (task) => element("li", task), () => {});
  }

  makeCall(call) {
    const made = element("article");
    const head = element("p", "", "call");
    const cancel = button("Cancel", () => this.actions.cancel({ ...call, wid: this.wid }), `Cancel call ${call.id}`);
    head.append(element("strong", call.task), element("span"), cancel);
    made.append(head, element("p", call.id, "id"), element("pre"));
    return made;
  }
}

function wordsFor(stacks) {
  if (stacks === null) return "It does not answer.";
  return stacks.length ? "" : "Nothing runs just now.";
}

function updateCall(made, call) {
  const [head, , stack] = made.children;
  const [, words, cancel] = head.children;
  const where = call.thread ? `in ${call.thread}` : "on the reactor";
  say(words, `${call.stuck ? "stuck, runs" : "runs"} for ${duration(call.seconds)} ${where}`);
  words.className = call.stuck ? "bad" : "";
  show(cancel, !call.stuck);
  say(stack, call.stack.join("\n") || "It has no thread of its own to look at.");
}

function makeFact([name, text]) {
  const made = element("div");
  made.append(element("dt", name), element("dd", text));
  return made;
}

function factsOf(worker) {
  return [
    ["Host", worker.host],
    ["Process", String(worker.pid)],
    ["Since", worker.started ? time(worker.started) : "–"],
    ["Threads busy", `${worker.busy} of ${worker.threads}`],
    ["Stuck", whole(worker.stuck)],
    ["Replaced threads", whole(worker.replaced)],
    ["Runs", whole(worker.in_progress)],
    ["Holds", whole(worker.held)],
    ["Calls a second", rate(worker.rate)],
    ["Wait", duration(worker.wait)],
    ["Done", whole(worker.processed)],
    ["Failed", whole(worker.exceptions)],
    ["Timed out", whole(worker.timeouts)],
    ["Unconfirmed replies", whole(worker.unconfirmed_replies)],
  ];
}
