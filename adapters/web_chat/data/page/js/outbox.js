// Messages that were written and are not known to be on the host's disk. They lie in the browser's storage, one entry
// each, so that neither a crash of the browser nor a second tab loses one; each has a key of its own, so that the host
// takes it once however often it is sent.

import { storage } from './storage.js';

const PREFIX = 'portway.outbox.';
const FIRST_RETRY = 2000;
const TAKEN = 'SAME_KEY_OTHER_BODY';

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export class Outbox extends EventTarget {
  constructor(connection) {
    super();
    this.connection = connection;
    this.entries = [];
    this.storageFull = false;
    for (const entry of readAll()) this.entries.push({ ...entry, state: entry.error ? 'failed' : 'waiting' });
    addEventListener('storage', (event) => this.changedElsewhere(event));
  }

  of(conversation) {
    return this.entries.filter((entry) => entry.c === conversation);
  }

  add(conversation, text, files) {
    const entry = { key: newKey(), c: conversation, text, files, at: Date.now(), state: 'waiting', sent: false };
    this.entries.push(entry);
    this.store(entry);
    this.deliver(entry);
    this.changed();
  }

  // A new connection: everything that was not answered goes again, in order.
  resend() {
    for (const entry of this.entries) {
      if (entry.state === 'sending' || entry.state === 'waiting') this.deliver(entry);
    }
    this.changed();
  }

  disconnected() {
    for (const entry of this.entries) if (entry.state === 'sending') entry.state = 'waiting';
    this.changed();
  }

  accepted(frame) {
    const entry = this.find(frame.key);
    if (!entry) return;
    storage.removeItem(PREFIX + entry.key);
    // It stays on the page until the transcript has it.
    Object.assign(entry, { state: 'accepted', message: frame.message, problem: undefined });
    if (!frame.message) this.drop(entry);
    this.changed();
  }

  refused(frame) {
    const entry = this.find(frame.key);
    if (!entry || entry.state === 'accepted') return;
    // The key is this page's own secret: if the host knows it, it has the message, as sent before signing in anew.
    if (frame.code === TAKEN) this.accepted({ key: frame.key });
    else if (frame.retry) {
      Object.assign(entry, { state: 'waiting', problem: frame.message });
      setTimeout(() => entry.state === 'waiting' && this.deliver(entry), (frame.after ?? 0) * 1000 || FIRST_RETRY);
    } else {
      Object.assign(entry, { state: 'failed', error: frame.message });
      this.store(entry);
    }
    this.changed();
  }

  retry(key) {
    const entry = this.find(key);
    if (!entry) return;
    // The host has refused this key for good: it is a new message.
    this.remove(key);
    this.add(entry.c, entry.text, entry.files);
  }

  remove(key) {
    const entry = this.find(key);
    if (!entry) return;
    storage.removeItem(PREFIX + key);
    this.drop(entry);
    this.changed();
  }

  // The transcript has these messages now.
  arrived(ids) {
    const before = this.entries.length;
    this.entries = this.entries.filter((entry) => !(entry.message && ids.has(entry.message)));
    if (this.entries.length !== before) this.changed();
  }

  deliver(entry) {
    const { key, c, text, files } = entry;
    entry.state = this.connection.send({ t: 'send', key, c, text, files }) ? 'sending' : 'waiting';
    entry.sent ||= entry.state === 'sending';
  }

  store(entry) {
    const { key, c, text, files, at, error } = entry;
    try {
      storage.setItem(PREFIX + key, JSON.stringify({ key, c, text, files, at, error }));
    } catch {
      this.storageFull = true;
    }
  }

  // Another tab got the answer, or removed it.
  changedElsewhere(event) {
    if (!event.key?.startsWith(PREFIX) || event.newValue !== null) return;
    const entry = this.find(event.key.slice(PREFIX.length));
    if (entry && entry.state !== 'accepted') {
      this.drop(entry);
      this.changed();
    }
  }

  drop(entry) {
    this.entries = this.entries.filter((one) => one !== entry);
  }

  find(key) {
    return this.entries.find((entry) => entry.key === key);
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }
}

function readAll() {
  const found = [];
  for (let index = 0; index < storage.length; index += 1) {
    const name = storage.key(index);
    if (!name.startsWith(PREFIX)) continue;
    try {
      found.push(JSON.parse(storage.getItem(name)));
    } catch {
      storage.removeItem(name);
    }
  }
  return found.sort((one, other) => one.at - other.at);
}
