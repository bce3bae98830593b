// Files that are being attached. Each is sent by itself, with its progress, before the message that it belongs to.

import { size, text as say } from './texts.js';

let last = 0;

export class Uploads extends EventTarget {
  constructor() {
    super();
    this.limits = { upload: 20 * 1024 * 1024, files: 10 };
    this.files = [];
    this.problems = [];
  }

  get busy() {
    return this.files.some((file) => !file.done);
  }

  get ready() {
    return this.files.filter((file) => file.done).map((file) => file.done);
  }

  add(list) {
    for (const file of list) {
      const name = file.name || say('untitled');
      if (file.size > this.limits.upload) {
        this.problem(say('too_large', { name, size: size(file.size), limit: size(this.limits.upload) }));
      } else if (file.size === 0) this.problem(say('empty_file', { name }));
      else if (this.files.length >= this.limits.files) this.problem(say('too_many', { name, count: this.limits.files }));
      else this.start(file, name);
    }
    this.changed();
  }

  // Files that are on the host already.
  adopt(files) {
    for (const file of files) {
      this.files.push({ id: (last += 1), name: file.name, size: file.size, share: 1, done: file, request: new XMLHttpRequest() });
    }
    this.changed();
  }

  start(file, name) {
    const entry = { id: (last += 1), name, size: file.size, share: 0, done: null, request: new XMLHttpRequest() };
    const { request } = entry;
    this.files.push(entry);
    request.upload.addEventListener('progress', (event) => {
      // The last part is the host's: it is done when the host has it on disk.
      entry.share = Math.min(event.loaded / Math.max(event.total, 1), 0.99);
      this.changed();
    });
    request.addEventListener('load', () => this.answered(entry));
    request.addEventListener('error', () => this.failed(entry, say('upload_lost')));
    request.open('POST', `/api/uploads?name=${encodeURIComponent(name)}`);
    request.responseType = 'json';
    request.setRequestHeader('Content-Type', file.type || 'application/octet-stream');
    request.send(file);
  }

  answered(entry) {
    const { status, response } = entry.request;
    if (status === 201) {
      entry.done = response;
      entry.share = 1;
      this.changed();
    } else this.failed(entry, response?.message ?? `HTTP ${status}`);
  }

  failed(entry, message) {
    if (!this.files.includes(entry)) return;
    this.files = this.files.filter((one) => one !== entry);
    this.problem(say('upload_failed', { name: entry.name, message }));
    this.changed();
  }

  remove(entry) {
    this.files = this.files.filter((one) => one !== entry);
    entry.request.abort();
    this.changed();
  }

  problem(message) {
    this.problems.push({ id: (last += 1), message });
  }

  dismiss(problem) {
    this.problems = this.problems.filter((one) => one !== problem);
    this.changed();
  }

  clear() {
    this.files = [];
    this.problems = [];
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }
}
