// The status page: what is live, what is stale, and what the buttons do.

import { count, duration, worker as nameOf } from "./format.js";
import { Gateway } from "./gateway.js";
import { OverviewPage } from "./overview.js";
import { Refused, Stream } from "./stream.js";
import { say, show } from "./table.js";
import { WorkerPage } from "./worker.js";

/** Seconds after which what was seen is old, and that the first look may take. */
const FRESH = 5;
const FIRST = 3;
const SILENT = "nothing new comes";
const WORKER = "#worker/";

const byId = (id) => document.getElementById(id);
const gateway = new Gateway(document.body.dataset.asks);

let snapshot = null;
/** When the snapshot came, by the page's own clock. */
let heard = 0;
/** When it was begun to look; what was seen before that may be old. */
let begun = 0;
/** Why nothing comes any more; and when it is tried again. */
let away = "";
let retry = 0;

// -- what buttons do -------------------------------------------------------------------

const actions = {
  pause: (wid) => order("pause", { wid }, `${nameOf(wid)} takes no more calls.`),
  resume: (wid) => order("resume", { wid }, `${nameOf(wid)} takes calls again.`),
  drain: (wid) =>
    asked(`Drain ${nameOf(wid)}?`, "It ends when what it runs has ended; its supervisor may start it again.", "Drain", () =>
      order("drain", { wid }, `${nameOf(wid)} drains.`),
    ),
  cancel: (call) =>
    asked(`Cancel ${call.task}?`, `The call ${call.id} is interrupted, and its caller is told.`, "Cancel the call", () =>
      order("cancel", call, `The call ${call.id} was cancelled.`),
    ),
  requeue: (id) =>
    asked(
      id === null ? "Requeue all dead letters?" : "Requeue this dead letter?",
      "What is sent again runs again, and nobody waits for its answer.",
      "Requeue",
      () => requeue(id),
    ),
  showLetters: () => attempt(showLetters),
  look: async (wid) => {
    if (gateway.needsSignIn) throw new Error("not signed in");
    return gateway.get(`/overview/worker/${encodeURIComponent(wid)}`);
  },
};

const overview = new OverviewPage(actions);
const worker = new WorkerPage(actions);

async function order(command, { wid, id }, done) {
  await attempt(async () => {
    const answer = await gateway.order("/overview/order", { command, worker: wid, id });
    tell(answer.cancelled === false ? "That call was not there any more." : done);
  });
}

async function requeue(id) {
  await attempt(async () => {
    const { requeued, failed, left } = await gateway.order("/overview/requeue", { id });
    const rest = left && id === null ? `, ${count(left, "letter was", "letters were")} not looked at` : "";
    tell(`${count(requeued, "call", "calls")} sent again, ${failed} could not be${rest}.`);
    if (snapshot.dead > requeued) await showLetters();
    else overview.showLetters([], 0);
  });
}

async function showLetters() {
  const { letters, left } = await gateway.get("/overview/dead");
  overview.showLetters(letters, left);
}

/** Do it, and say what went wrong with it. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    tell(error instanceof Refused ? error.message : "The gateway does not answer.", true);
  }
}

function tell(words, isBad = false) {
  const message = byId("message");
  message.classList.toggle("bad", isBad);
  say(message, words);
  show(message, true);
}

/** Ask for a confirmation, in the page. */
function asked(title, words, verb, action) {
  const dialog = byId("confirm");
  say(byId("confirm-title"), title);
  say(byId("confirm-words"), words);
  say(byId("confirm-yes"), verb);
  byId("confirm-yes").onclick = () => {
    dialog.close();
    action();
  };
  dialog.showModal();
}

// -- what is live, and what is stale ---------------------------------------------------

const stream = new Stream((signal) => gateway.open(signal), {
  told(value) {
    snapshot = value;
    heard = performance.now();
    away = "";
    draw();
  },
  lost(error, delay) {
    away = error instanceof Refused ? error.message : "the gateway does not answer";
    retry = performance.now() + delay;
    drawState();
  },
  refused(error) {
    away = error.message;
    retry = 0;
    drawState();
    // Where there are passwords alone, the browser has asked for one, and would ask again and again.
    if (error.status === 401 && gateway.takesToken) signOut(error.message);
  },
});

function draw() {
  if (!snapshot) return;
  show(byId("main"), true);
  say(byId("broker"), snapshot.broker);
  if (worker.wid === null) overview.show(snapshot);
  else worker.show(snapshot);
  show(byId("looking-only"), !gateway.mayOrder);
  document.body.classList.toggle("may-order", gateway.mayOrder);
  drawState();
}

/** Words first: a colour alone says nothing to many. */
function drawState() {
  // A hidden page does not look, and so is not stale.
  if (document.hidden) return;
  const age = snapshot && snapshot.age !== null ? snapshot.age + since(heard) : null;
  const isOld = age === null || age > FRESH;
  const problem = away || (snapshot && snapshot.problem) || (isOld && age !== null && since(begun) > FIRST && SILENT);
  const words = problem ? `Stale: ${problem}` : isOld ? waitingWords() : "Live";
  say(byId("state-words"), words);
  say(byId("state-age"), problem || age > FRESH ? ageWords(age) : "");
  document.body.classList.toggle("stale", Boolean(problem));
  document.body.classList.toggle("live", words === "Live");
  document.title = problem ? "stale – crew status" : "crew status";
}

/** Seconds since a moment of the page's clock. */
function since(moment) {
  return (performance.now() - moment) / 1000;
}

function waitingWords() {
  return gateway.needsSignIn ? "Not signed in" : "Connecting";
}

/** Whole ones: tenths would be a flicker. */
function seconds(age) {
  return age < 60 ? `${Math.max(1, Math.floor(age))} s` : duration(age);
}

function ageWords(age) {
  const wait = Math.ceil((retry - performance.now()) / 1000);
  const seen = age === null ? "Nothing was seen yet" : `What is here was seen ${seconds(age)} ago`;
  return away && retry && wait > 0 ? `${seen}; tried again in ${wait} s.` : `${seen}.`;
}

setInterval(drawState, 1000);

// -- who is here, and where ------------------------------------------------------------

function begin() {
  const isOut = gateway.needsSignIn;
  show(byId("sign-in"), isOut);
  show(byId("sign-in-password"), gateway.takesPassword);
  show(byId("sign-out"), Boolean(gateway.token));
  if (isOut) {
    stream.stop();
    drawState();
    byId("token").focus();
  } else if (!document.hidden) {
    look();
  }
}

function look() {
  begun = performance.now();
  stream.start();
}

function signOut(words) {
  gateway.signOut();
  snapshot = null;
  away = "";
  show(byId("main"), false);
  begin();
  if (words) tell(words, true);
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  gateway.signIn(byId("token").value.trim());
  byId("token").value = "";
  show(byId("message"), false);
  begin();
});
byId("use-password").addEventListener("click", () => {
  gateway.signInByPassword();
  begin();
});
byId("sign-out").addEventListener("click", () => signOut(""));
byId("confirm-no").addEventListener("click", () => byId("confirm").close());

// Nobody looks at a hidden page, and then the gateway need not look either.
document.addEventListener("visibilitychange", () => {
  if (gateway.needsSignIn) return;
  if (document.hidden) stream.stop();
  else look();
});

/** The worker that the address names; null where it names none. */
function wanted() {
  if (!location.hash.startsWith(WORKER)) return null;
  try {
    return decodeURIComponent(location.hash.slice(WORKER.length));
  } catch {
    return null;
  }
}

function route() {
  const wid = wanted();
  show(byId("message"), false);
  show(byId("overview"), wid === null);
  show(byId("worker"), wid !== null);
  if (wid === null) worker.close();
  else worker.open(wid);
  draw();
  if (wid !== null) byId("worker-title").focus();
}

window.addEventListener("hashchange", route);
route();
begin();
