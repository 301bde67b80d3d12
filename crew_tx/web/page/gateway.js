// What the page asks the gateway, and by which credential.

import { checked } from "./stream.js";

const KEPT = "crew-token";
const BY_PASSWORD = "crew-by-password";

/** One gateway, and whoever is signed in. */
export class Gateway {
  /** @param asks which credentials there are: "token", "password", both, or none. */
  constructor(asks) {
    this.asks = asks.split(" ").filter(Boolean);
    this.mayOrder = false;
    this.orderToken = null;
  }

  get takesToken() {
    return this.asks.includes("token");
  }

  get takesPassword() {
    return this.asks.includes("password");
  }

  /** Whether somebody has to sign in here before anything is asked. A browser asks for passwords by itself. */
  get needsSignIn() {
    return this.takesToken && !this.token && !(this.takesPassword && sessionStorage.getItem(BY_PASSWORD));
  }

  get token() {
    return sessionStorage.getItem(KEPT);
  }

  signIn(token) {
    sessionStorage.setItem(KEPT, token);
  }

  signInByPassword() {
    sessionStorage.setItem(BY_PASSWORD, "yes");
  }

  signOut() {
    sessionStorage.removeItem(KEPT);
    sessionStorage.removeItem(BY_PASSWORD);
    this.mayOrder = false;
    this.orderToken = null;
  }

  /** The response of the stream of snapshots; and before it, what orders need. */
  async open(signal) {
    const response = await checked(await this.fetch("/overview/token", { signal }));
    const { may_order: mayOrder, token } = await response.json();
    this.mayOrder = mayOrder;
    this.orderToken = token;
    return this.fetch("/overview/events", { signal });
  }

  async get(path) {
    return (await checked(await this.fetch(path))).json();
  }

  async order(path, value) {
    const headers = { "Content-Type": "application/json", "Crew-Token": this.orderToken || "" };
    const options = { method: "POST", headers, body: JSON.stringify(value) };
    return (await checked(await this.fetch(path, options))).json();
  }

  fetch(path, options = {}) {
    const token = this.token;
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    // A page's own address may have a name and a password in it, and with these nothing can be asked.
    return fetch(location.origin + path, {
      ...options,
      headers,
      cache: "no-store",
      credentials: token ? "omit" : "same-origin",
    });
  }
}
