// The field in which messages are written. What is typed survives everything: it lies in the browser's storage until it
// is sent, for each conversation.

import { byId, h, icon } from './dom.js';
import { storage } from './storage.js';
import { size, text as say } from './texts.js';
import { Uploads } from './uploads.js';

const DRAFT = 'portway.draft.';
const TALLEST = 240;

export class Composer extends EventTarget {
  constructor() {
    super();
    this.uploads = new Uploads();
    this.limits = { text: 256 * 1024 };
    this.tooLong = '';
    this.input = byId('input');
    byId('attach').append(icon('attach'));
    byId('send').append(icon('send'));
    byId('stop').append(icon('stop'));
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.input.addEventListener('keydown', (event) => this.key(event));
    this.input.addEventListener('input', () => this.typed());
    byId('stop').addEventListener('click', () => this.dispatchEvent(new Event('stop')));
    this.listenForFiles();
    this.uploads.addEventListener('change', () => this.draw());
    this.draw();
  }

  listenForFiles() {
    const chooser = byId('files');
    byId('attach').addEventListener('click', () => chooser.click());
    chooser.addEventListener('change', () => {
      this.uploads.add(chooser.files);
      chooser.value = '';
    });
    this.input.addEventListener('paste', (event) => {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.uploads.add(event.clipboardData.files);
      }
    });
    const drop = byId('app');
    drop.addEventListener('dragover', (event) => event.preventDefault());
    drop.addEventListener('drop', (event) => {
      event.preventDefault();
      this.uploads.add(event.dataTransfer.files);
    });
  }

  show(conversation) {
    this.conversation = conversation;
    this.input.value = storage.getItem(DRAFT + conversation) ?? '';
    this.tooLong = '';
    this.uploads.clear();
    this.grow();
  }

  configure(limits) {
    this.limits = limits;
    this.uploads.limits = limits;
  }

  // Puts a message back into the field, for another try.
  edit(text, files = []) {
    this.uploads.adopt(files);
    this.input.value = [this.input.value, text].filter(Boolean).join('\n');
    this.typed();
    this.input.focus();
  }

  running(live) {
    byId('stop').hidden = !live;
  }

  key(event) {
    // Enter that ends the writing of a Chinese or Japanese word does not send.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.submit();
  }

  submit() {
    const text = this.input.value.trim();
    const files = this.uploads.ready;
    if (!text && !files.length) return;
    if (this.uploads.busy) {
      this.draw(say('upload_wait'));
      return;
    }
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > this.limits.text) {
      this.tooLong = say('text_too_long', { size: size(bytes), limit: size(this.limits.text) });
      this.draw();
      return;
    }
    this.dispatchEvent(new CustomEvent('send', { detail: { text, files } }));
    this.input.value = '';
    this.uploads.clear();
    this.typed();
  }

  typed() {
    this.tooLong = '';
    try {
      if (this.input.value) storage.setItem(DRAFT + this.conversation, this.input.value);
      else storage.removeItem(DRAFT + this.conversation);
    } catch {
      // A draft is a convenience; a full storage only costs that.
    }
    this.grow();
    this.draw();
  }

  grow() {
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, TALLEST)}px`;
  }

  draw(hint = '') {
    const { uploads } = this;
    byId('chips').replaceChildren(...uploads.files.map((file) => chip(file, () => uploads.remove(file))));
    const problems = uploads.problems.map((one) => problemNode(one.message, () => uploads.dismiss(one)));
    for (const message of [this.tooLong, hint].filter(Boolean)) problems.push(problemNode(message, null));
    byId('problems').replaceChildren(...problems);
    byId('send').disabled = uploads.busy;
  }
}

function chip(file, remove) {
  const percent = Math.floor(file.share * 100);
  const bar = h('progress', { max: '100', value: String(percent), 'aria-label': say('uploading', { name: file.name, percent }) });
  const close = h('button', { class: 'plain', type: 'button', 'aria-label': say('remove'), on: { click: remove } }, icon('close'));
  const node = h('li', { class: 'chip', data: { testid: 'chip', done: String(Boolean(file.done)) } });
  node.append(icon('file'), h('span', { class: 'file-name' }, file.name), h('span', { class: 'file-size' }, size(file.size)));
  node.append(...(file.done ? [close] : [bar, close]));
  return node;
}

function problemNode(message, dismiss) {
  const close = dismiss
    ? h('button', { class: 'plain', type: 'button', 'aria-label': say('dismiss'), on: { click: dismiss } }, icon('close'))
    : null;
  return h('li', { data: { testid: 'problem' } }, icon('warning'), h('span', {}, message), close);
}
