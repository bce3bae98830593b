// The rows of a conversation: messages of the transcript, text that is being written, messages on their way, and what a
// run is doing.

import { h, icon } from './dom.js';
import { fileNodes } from './file_view.js';
import { MarkdownView, copyButton } from './markdown/view.js';
import { QuestionView } from './question_view.js';
import { text as say, when } from './texts.js';

export class ItemView {
  constructor(submit) {
    this.submit = submit;
    this.element = h('li', { class: 'row' });
  }

  update({ item }) {
    if (item === this.item) return;
    // A form that somebody is filling in stays as it is until something became of the question.
    const same = this.item?.question && item.question?.state === this.item.question.state;
    this.item = item;
    if (same) return;
    if (item.question && !item.redacted) {
      this.element.className = 'row theirs';
      Object.assign(this.element.dataset, { testid: 'message', role: item.role, kind: item.kind, item: item.id });
      this.question = new QuestionView(item, this.submit);
      this.element.replaceChildren(this.question.element);
      return;
    }
    const side = item.role === 'user' ? 'mine' : item.kind === 'notice' || item.role === 'system' ? 'notice' : 'theirs';
    this.element.className = `row ${side}`;
    Object.assign(this.element.dataset, { testid: 'message', role: item.role, kind: item.kind, item: item.id });
    if (item.run) this.element.dataset.run = item.run;
    const time = when(item.time);
    const stamp = h('time', { datetime: item.time, title: time.exact }, time.short);
    const who = h('span', { class: 'hidden' }, `${say(side === 'mine' ? 'you' : side === 'notice' ? 'notice' : 'agent')}: `);
    const foot = h('div', { class: 'foot' }, side === 'theirs' ? copyButton(() => item.text) : null, stamp);
    this.element.replaceChildren(who, body(item, side), foot);
  }
}

function body(item, side) {
  if (item.redacted) return h('div', { class: 'bubble redacted' }, say('redacted'));
  const files = fileNodes(item.files);
  if (side === 'theirs') {
    const view = new MarkdownView();
    view.update(item.text);
    return h('div', { class: 'bubble', data: { testid: 'text' } }, view.element, files);
  }
  const words = item.text ? h('div', { class: 'plain-text', data: { testid: 'text' } }, item.text) : null;
  return h('div', { class: 'bubble' }, side === 'notice' ? icon('warning') : null, files, words);
}

// Text that is being written, and reasoning. The same look as the message that follows, so that nothing jumps.
export class LiveView {
  constructor() {
    this.view = new MarkdownView();
    this.element = h('li', { class: 'row theirs live', data: { testid: 'live' } });
  }

  update({ block }) {
    if (!this.element.firstChild) {
      const reasoning = block.type === 'reasoning';
      const inner = h('div', { class: 'bubble', data: { testid: 'text' } }, this.view.element);
      this.element.append(reasoning ? h('details', { class: 'reasoning' }, h('summary', {}, say('reasoning')), inner) : inner);
    }
    this.element.classList.toggle('writing', !block.item);
    this.view.update(block.text ?? '');
  }
}

// A message that the host does not have yet, or that the transcript does not show yet.
export class PendingView {
  constructor(outbox, onEdit) {
    this.outbox = outbox;
    this.onEdit = onEdit;
    this.element = h('li', { class: 'row mine pending', data: { testid: 'pending' } });
  }

  update({ entry }) {
    const look = `${entry.state}|${entry.problem ?? ''}|${entry.error ?? ''}|${entry.sent}`;
    if (look === this.look) return;
    this.look = look;
    this.element.dataset.state = entry.state;
    const words = entry.text ? h('div', { class: 'plain-text', data: { testid: 'text' } }, entry.text) : null;
    const bubble = h('div', { class: 'bubble' }, fileNodes(entry.files), words);
    this.element.replaceChildren(h('span', { class: 'hidden' }, `${say('you')}: `), bubble, this.foot(entry));
  }

  foot(entry) {
    const button = (name, action) => h('button', { class: 'plain', type: 'button', on: { click: action } }, say(name));
    if (entry.state === 'failed') {
      return h(
        'div',
        { class: 'foot failed', role: 'alert' },
        h('span', {}, say('not_sent', { message: entry.error })),
        button('retry', () => this.outbox.retry(entry.key)),
        button('edit', () => this.onEdit(entry)),
        button('remove', () => this.outbox.remove(entry.key)),
      );
    }
    const line = entry.problem ? say('will_retry', { message: entry.problem }) : say(entry.state === 'waiting' ? 'will_send' : 'sending');
    // What was never handed to the network can be taken back; of the rest nobody knows yet.
    const back = entry.state === 'waiting' && !entry.sent ? button('remove', () => this.outbox.remove(entry.key)) : null;
    return h('div', { class: 'foot' }, entry.state === 'accepted' ? null : h('span', {}, line), back);
  }
}

// What a run is doing when it writes nothing.
export class StateView {
  constructor() {
    this.words = h('span', { data: { testid: 'run-state' } });
    this.element = h('li', { class: 'row theirs state' }, h('span', { class: 'dots', 'aria-hidden': 'true' }, h('i'), h('i'), h('i')), this.words);
  }

  update({ run }) {
    this.element.dataset.state = run.state;
    const last = run.blocks.at(-1);
    const writes = last && last.type === 'text' && !last.item && !run.ended && run.state === 'running';
    this.element.classList.toggle('quiet', Boolean(writes) && !run.progress);
    this.element.classList.toggle('over', Boolean(run.ended));
    this.words.textContent = stateText(run);
  }
}

function stateText(run) {
  if (run.ended) {
    if (run.ended.state === 'completed') return '';
    return run.notice?.text || say(`ended_${run.ended.state}`, { message: run.ended.message || run.ended.code });
  }
  if (run.state === 'running') return run.progress || say('thinking');
  return say(run.state);
}
