// The gateway's server-sent events, read by fetch: EventSource can't send a credential.

const FIRST_DELAY = 1000;
const LONGEST_DELAY = 15_000;
/** Milliseconds without a byte after which the gateway is away: it sends something each second or three. */
const SILENCE = 8000;
/** Characters of one event: past it this is no overview. */
const LONGEST = 8 * 1024 * 1024;

/** The gateway's refusal: `status`, and in words. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/** Raise a response's problem, if it is one. */
export async function checked(response) {
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, String(problem.detail || `the gateway answered ${response.status}`));
}

/**
 * Reads events, again and again, until it is stopped or refused for good.
 *
 * @param open makes a response, given an AbortSignal.
 * @param told called with each event's value.
 * @param lost called with an error, and the milliseconds until the next try.
 * @param refused called with a Refused for which trying again is of no use.
 */
export class Stream {
  constructor(open, { told, lost, refused }) {
    this.open = open;
    this.told = told;
    this.lost = lost;
    this.refused = refused;
    this.run = null;
  }

  start() {
    this.stop();
    this.run = new AbortController();
    this.tryAgain(this.run, FIRST_DELAY);
  }

  stop() {
    this.run?.abort();
    this.run = null;
  }

  async tryAgain(run, delay) {
    while (!run.signal.aborted) {
      try {
        await this.read(run, () => (delay = FIRST_DELAY));
      } catch (error) {
        if (run.signal.aborted) return;
        if (error instanceof Refused && [401, 403, 404].includes(error.status)) {
          this.refused(error);
          return;
        }
        this.lost(error, delay);
      }
      await new Promise((resolve) => setTimeout(resolve, delay));
      delay = Math.min(LONGEST_DELAY, delay * (1.5 + Math.random() / 2));
    }
  }

  async read(run, isWell) {
    const one = new AbortController();
    const end = () => one.abort();
    run.signal.addEventListener("abort", end, { once: true });
    let timer = setTimeout(end, SILENCE);
    try {
      const response = await checked(await this.open(one.signal));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the gateway ended the stream");
        clearTimeout(timer);
        timer = setTimeout(end, SILENCE);
        const events = (text + value).split("\n\n");
        text = events.pop();
        if (text.length > LONGEST) throw new Error("the gateway sent too much");
        for (const event of events) {
          if (event.startsWith("data: ")) this.told(JSON.parse(event.slice("data: ".length)));
        }
        isWell();
      }
    } finally {
      clearTimeout(timer);
      run.signal.removeEventListener("abort", end);
      one.abort();
    }
  }
}
