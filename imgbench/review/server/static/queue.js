// Writes that wait for the server: kept in the browser's storage, sent in
// order, tried again until the server has answered. Each has ids that the
// server knows again, so a second try changes nothing.

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 5000;
const TIMEOUT_MS = 15000;
const LOST = 409;
const LOGGED_OUT = 401;
const REFUSED = 403;
const BUSY = 429;
const BROKEN = 500;

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

export class Queue {
  // Runs after each change, after each answer, and when the server refuses a
  // write for good; pages replace them.
  onChange() {}
  onReply(entry, reply) {}
  onError(entry, status, text) {}

  // `user` keeps writes of two users of one browser apart.
  constructor(user, csrf) {
    this.prefix = `imgbench:${user}:write:`;
    this.csrf = csrf;
    Object.assign(this, {stopped: "", away: false, sending: false, count: 0});
    addEventListener("online", () => this.send());
    addEventListener("beforeunload", event => {
      if (this.list().length && !this.stopped) event.preventDefault();
    });
  }

  // Returns the entries that have no answer yet, the oldest first.
  list() {
    return Object.keys(localStorage)
      .filter(key => key.startsWith(this.prefix))
      .sort()
      .map(key => ({...JSON.parse(localStorage.getItem(key)), key}));
  }

  add(path, body) {
    const order = [Date.now(), this.count++].map(n => `${n}`.padStart(15, "0"));
    const key = `${this.prefix}${order.join("-")}:${crypto.randomUUID()}`;
    localStorage.setItem(key, JSON.stringify({path, body, tried: false}));
    this.onChange();
    this.send();
  }

  // Takes back the last action if none of it was sent; returns its images.
  takeBack() {
    const entries = this.list();
    const last = entries.at(-1);
    if (!last?.body.events) return null;
    const {action} = last.body;
    const whole = entries.filter(
      entry => entry === last || (action && entry.body.action === action));
    if (whole.some(entry => entry.tried)) return null;
    this.drop(whole);
    return whole.map(entry => entry.body.image);
  }

  drop(entries) {
    for (const entry of entries) localStorage.removeItem(entry.key);
    this.onChange();
  }

  // Sends what waits. Tabs take turns, so that the order holds.
  async send() {
    if (this.sending || this.stopped) return;
    this.sending = true;
    let wait = FIRST_WAIT_MS;
    while (this.list().length && !this.stopped) {
      const done = await navigator.locks.request(
        this.prefix, () => this.sendFirst());
      this.away = !done;
      this.onChange();
      if (!done) await sleep(wait);
      wait = done ? FIRST_WAIT_MS : Math.min(2 * wait, LONGEST_WAIT_MS);
    }
    this.sending = false;
    this.onChange();
  }

  // Returns false if the server is away.
  async sendFirst() {
    const entry = this.list()[0];
    if (!entry) return true;
    const {path, body, key} = entry;
    localStorage.setItem(key, JSON.stringify({path, body, tried: true}));
    let response, reply;
    try {
      response = await fetch(path, {
        method: "POST",
        headers: {
          "Content-Type": "application/json", "X-CSRF-Token": this.csrf},
        body: JSON.stringify(body),
        keepalive: true,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      reply = response.ok ? await response.json() : null;
    } catch {
      return false;
    }
    const {status} = response;
    if (status >= BROKEN || status === BUSY) return false;
    if (status === LOGGED_OUT || status === REFUSED) {
      this.stopped = status === LOGGED_OUT ? "You are logged out. Log in again"
        : "The server refuses changes from this page. Reload it";
      this.stopped += ": your changes are kept in this browser.";
      return true;
    }
    if (response.ok) {
      this.drop([entry]);
      this.onReply(entry, reply);
    } else {
      const same = other => other.body.image === body.image;
      this.drop(status === LOST ? this.list().filter(same) : [entry]);
      const text = await response.json().then(({error}) => error, () => "");
      this.onError(entry, status, text || `the server answered ${status}`);
    }
    return true;
  }
}
