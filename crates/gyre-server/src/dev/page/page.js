// The demo page of development mode: a small client of the JSON protocol, and what it shows.

const TRANSPORT_TIMEOUT = 4000; // ms to open a transport
const REPLY_TIMEOUT = 5000; // ms to answer a command
const PING_GRACE = 10000; // ms a ping may be late
const BACKOFF_MIN = 500; // ms
const BACKOFF_MAX = 5000; // ms; the server is most often down for a restart by its developer.
const MESSAGES_MAX = 200;

// ---- Transports: each opens to { name, send(text), close() } and then calls receive(line) and ended(reason).

async function certificateHashes() {
  const response = await fetch("/connection/webtransport/hashes", {
    cache: "no-store",
    signal: AbortSignal.timeout(TRANSPORT_TIMEOUT),
  });
  if (response.status === 404) return {}; // The certificate is not the server's own: authorities vouch for it.
  if (!response.ok) throw new Error(`status ${response.status}`);
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const { hashes } = await response.json();
  return { serverCertificateHashes: hashes.map(({ algorithm, value }) => ({ algorithm, value: bytes(value) })) };
}

async function openWebTransport(receive, ended) {
  const port = location.port || (location.protocol === "https:" ? 443 : 80);
  if (!window.isSecureContext) {
    throw new Error(`browsers offer it to secure pages only; open http://localhost:${port}/ on the server's machine`);
  }
  if (!("WebTransport" in window)) throw new Error("this browser does not have it");
  const options = await certificateHashes().catch((error) => {
    throw new Error(`the certificate hashes could not be fetched: ${error.message}`);
  });
  const session = new WebTransport(`https://${location.hostname}:${port}/connection/webtransport`, options);
  session.closed.catch(() => {}); // The reader below reports it.
  try {
    await within(TRANSPORT_TIMEOUT, session.ready, "timed out after 4 s (is UDP blocked?)");
  } catch (error) {
    try { session.close(); } catch { /* It never opened. */ }
    throw new Error(error.isTimeout ? error.message : `handshake failed: ${error.message}`);
  }
  const stream = await session.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  const encoder = new TextEncoder();
  readLines(stream.readable, receive).then(() => ended("the server ended the stream"), (error) => ended(error.message))
    .finally(() => { try { session.close(); } catch { /* It is closed. */ } });
  return {
    name: "WebTransport",
    send: (text) => void writer.write(encoder.encode(text + "\n")).catch(() => {}),
    close: () => session.close(),
  };
}

async function readLines(readable, receive) {
  const reader = readable.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.forEach(receive);
  }
}

async function openWebSocket(receive, ended) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/connection/websocket`);
  const opened = new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onclose = ({ code }) => reject(new Error(`could not be opened (${code})`));
  });
  try {
    await within(TRANSPORT_TIMEOUT, opened, "timed out after 4 s");
  } catch (error) {
    socket.close();
    throw error;
  }
  socket.onmessage = ({ data }) => data.split("\n").filter(Boolean).forEach(receive);
  socket.onclose = ({ code, reason }) => ended(reason || "connection lost", code);
  return { name: "WebSocket", send: (text) => socket.send(text), close: () => socket.close() };
}

function within(milliseconds, promise, message) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(Object.assign(new Error(message), { isTimeout: true })), milliseconds);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

// ---- Client: one connection at a time, subscriptions that outlive it.

class Client {
  #transport = null;
  #isLive = false; // The connect command is answered.
  #attempt = 0; // Failed attempts in a row.
  #generation = 0; // Counts connections, so that what belongs to an old one is ignored.
  #lastId = 0;
  #replies = new Map(); // Command id -> { resolve, reject }.
  #positions = new Map(); // Channel -> { offset, epoch } to recover from, or null.
  #retryTimer = 0;
  #pingTimer = 0;
  #silenceMax = 0; // ms; 0 before the connect reply, and if the server does not ping.

  constructor(view) {
    this.view = view;
  }

  async connect() {
    const generation = ++this.#generation;
    clearTimeout(this.#retryTimer);
    this.view.state("connecting");
    const current = () => generation === this.#generation;
    const receive = (line) => current() && this.#receive(line);
    const ended = (reason, code) => current() && this.#ended(reason, code);
    try {
      const transport = await this.#open(receive, ended);
      if (!current()) return transport.close();
      this.#transport = transport;
      const { connect } = await this.call({ connect: { name: "gyre-demo" } });
      if (!current()) return;
      this.#attempt = 0;
      this.#isLive = true;
      this.#silenceMax = connect.ping ? connect.ping * 1000 + PING_GRACE : 0;
      this.#heard();
      this.view.state("connected", transport.name);
      for (const channel of this.#positions.keys()) this.#resubscribe(channel);
    } catch (error) {
      if (current()) this.#ended(error.message, error.disconnect);
    }
  }

  disconnect() {
    this.#stop();
    this.view.state("disconnected", "", "by you");
  }

  /** Sends a command; resolves to its reply. */
  call(command) {
    const id = ++this.#lastId;
    const reply = new Promise((resolve, reject) => this.#replies.set(id, { resolve, reject }));
    if (this.#transport) this.#transport.send(JSON.stringify({ id, ...command }));
    else this.#replies.get(id).reject(new Error("not connected"));
    return within(REPLY_TIMEOUT, reply, "no answer").finally(() => this.#replies.delete(id));
  }

  /** Resolves to false if there is no connection yet: the next one subscribes. */
  async subscribe(channel) {
    const since = this.#positions.get(channel);
    if (since === undefined) this.#positions.set(channel, null);
    if (!this.#isLive) return false;
    const { subscribe } = await this.call({ subscribe: { channel, ...(since && { recover: true, ...since }) } });
    const { recoverable, offset = 0, epoch = "", publications = [], was_recovering, recovered } = subscribe;
    if (!this.#positions.has(channel)) return true; // Left in the meantime.
    this.#positions.set(channel, recoverable ? { offset, epoch } : null);
    if (was_recovering && !recovered) this.view.event(channel, "some messages were missed for good");
    if (recovered) this.view.event(channel, `recovered, ${publications.length} missed`);
    publications.forEach((publication) => this.view.message(channel, publication));
    return true;
  }

  async unsubscribe(channel) {
    if (this.#positions.delete(channel) && this.#isLive) await this.call({ unsubscribe: { channel } });
  }

  async #open(receive, ended) {
    try {
      const transport = await openWebTransport(receive, ended);
      this.view.fallback("");
      return transport;
    } catch (error) {
      this.view.fallback(`No WebTransport: ${error.message.replace(/\.$/, "")}. Using WebSocket.`);
      return openWebSocket(receive, ended);
    }
  }

  #receive(line) {
    this.#heard();
    const reply = JSON.parse(line);
    if (reply.id) {
      const { resolve, reject } = this.#replies.get(reply.id) ?? {};
      if (reply.error) reject?.(Object.assign(new Error(`${reply.error.message} (${reply.error.code})`), { isReply: true }));
      else resolve?.(reply);
    } else if (reply.push) {
      this.#push(reply.push);
    } else {
      this.#transport.send("{}"); // A ping; this is the pong.
    }
  }

  #push({ channel, pub, unsubscribe, disconnect }) {
    if (pub) {
      const position = this.#positions.get(channel);
      if (position && pub.offset) position.offset = pub.offset;
      if (this.#positions.has(channel)) this.view.message(channel, pub);
    } else if (unsubscribe) {
      if (unsubscribe.code >= 2500) this.#resubscribe(channel);
      else this.#positions.delete(channel);
      this.view.event(channel, `unsubscribed: ${unsubscribe.reason} (${unsubscribe.code})`);
    } else if (disconnect) {
      this.#ended(disconnect.reason, disconnect.code);
    }
  }

  #resubscribe(channel) {
    this.subscribe(channel).catch((error) => this.view.event(channel, `cannot subscribe: ${error.message}`));
  }

  /** The server pings every `ping` seconds; longer silence means that the connection is gone without a word. */
  #heard() {
    clearTimeout(this.#pingTimer);
    if (this.#silenceMax) this.#pingTimer = setTimeout(() => this.#ended("no ping"), this.#silenceMax);
  }

  #stop() {
    this.#generation++;
    this.#isLive = false;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#pingTimer);
    this.#silenceMax = 0;
    for (const { reject } of this.#replies.values()) reject(new Error("connection lost"));
    try { this.#transport?.close(); } catch { /* It is closed. */ }
    this.#transport = null;
  }

  #ended(reason, code = 0) {
    this.#stop();
    const said = code >= 3000 ? `${reason} (${code})` : reason;
    const isFinal = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    if (isFinal) return this.view.state("disconnected", "", said);
    const delay = Math.random() * Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(this.#attempt++, 10));
    this.view.state("waiting", "", `${said}; next attempt in ${(delay / 1000).toFixed(1)} s`);
    this.#retryTimer = setTimeout(() => this.connect(), delay);
  }
}

// ---- Page.

const CLOCK = "demo:clock";
const element = (id) => document.getElementById(id);
const readable = (data) => (typeof data === "string" ? data : typeof data?.text === "string" ? data.text : JSON.stringify(data));
let channel = element("channel").value;
let isOn = true;

const view = {
  state(name, transport = "", detail = "") {
    element("state").textContent = name;
    element("detail").textContent = detail;
    element("dot").className = `dot ${name}`;
    element("transport").textContent = transport || "none";
    isOn = name !== "disconnected";
    element("toggle").textContent = isOn ? "Disconnect" : "Connect";
    if (name !== "connected") element("round-trip").textContent = "–";
    else measure();
  },
  fallback(text) {
    element("fallback").textContent = text;
    element("fallback").hidden = !text;
  },
  message(name, { data }) {
    if (name === CLOCK) element("clock").textContent = readable(data?.time ?? data);
    if (name === channel) addLine(readable(data));
  },
  event(name, text) {
    if (name === channel) addLine(text, "event");
  },
};

function addLine(text, kind = "") {
  const time = Object.assign(document.createElement("time"), { textContent: new Date().toLocaleTimeString() });
  const line = Object.assign(document.createElement("li"), { className: kind });
  line.append(time, ` ${text}`);
  const list = element("messages");
  list.prepend(line);
  if (list.children.length > MESSAGES_MAX) list.lastChild.remove();
}

const client = new Client(view);

// Every channel answers this command to everybody, if only by saying that it keeps no presence.
async function measure() {
  const begin = performance.now();
  let clients = "";
  try {
    const { presence_stats: stats } = await client.call({ presence_stats: { channel } });
    clients = `, ${stats.num_clients} in this channel`;
  } catch (error) {
    if (!error.isReply) return;
  }
  element("round-trip").textContent = `${(performance.now() - begin).toFixed(1)} ms${clients}`;
}

async function report(action, done) {
  try {
    const isDone = (await action) !== false;
    element("channel-status").textContent = isDone ? done : "As soon as there is a connection";
  } catch (error) {
    element("channel-status").textContent = `That failed: ${error.message}`;
  }
}

element("channel-form").onsubmit = async (event) => {
  event.preventDefault();
  const [old, chosen] = [channel, element("channel").value.trim()];
  if (old !== CLOCK) await client.unsubscribe(old).catch(() => {});
  channel = chosen;
  element("messages").replaceChildren();
  if (chosen !== CLOCK) report(client.subscribe(chosen), `Subscribed to ${chosen}`);
};
element("publish-form").onsubmit = (event) => {
  event.preventDefault();
  const text = element("text");
  report(client.call({ publish: { channel, data: { text: text.value } } }), "Published");
  text.value = "";
};
element("toggle").onclick = () => (isOn ? client.disconnect() : client.connect());
element("copy").onclick = async () => {
  const done = await navigator.clipboard?.writeText(element("snippet").textContent).then(() => "Copied", () => "");
  element("copied").textContent = done || "Select the text and copy it";
};

fetch("/demo/snippet.js").then((response) => response.text()).then((text) => {
  element("snippet").textContent = text.replaceAll("localhost:8000", location.host);
});
setInterval(() => element("state").textContent === "connected" && measure(), 2000);
for (const name of [CLOCK, channel]) client.subscribe(name); // With the connection.
client.connect();
