// The list of conversations.

import { byId, h, icon } from './dom.js';
import { text as say, when } from './texts.js';

export class Sidebar {
  constructor(connection) {
    this.connection = connection;
    this.talks = [];
    this.next = '';
    this.timer = 0;
    byId('menu').append(icon('menu'));
    byId('menu').addEventListener('click', () => this.toggle(!this.isOpen));
    byId('shade').addEventListener('click', () => this.toggle(false));
    byId('more-talks').addEventListener('click', () => connection.send({ t: 'list', token: this.next }));
  }

  // Soon, and once for several reasons.
  refresh() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connection.send({ t: 'list' }), 200);
  }

  receive(frame) {
    const earlier = frame.more ? this.talks : [];
    const known = new Set(earlier.map((talk) => talk.c));
    this.talks = [...earlier, ...frame.conversations.filter((talk) => !known.has(talk.c))];
    this.next = frame.next;
    this.draw();
  }

  show(conversation) {
    this.current = conversation;
    this.toggle(false);
    this.draw();
  }

  titleOf(conversation) {
    return this.talks.find((talk) => talk.c === conversation)?.title;
  }

  draw() {
    byId('talks').replaceChildren(...this.talks.map((talk) => this.line(talk)));
    byId('more-talks').hidden = !this.next;
    byId('title').textContent = this.titleOf(this.current) || say('untitled');
  }

  line(talk) {
    const current = talk.c === this.current;
    const busy = talk.open ? h('span', { class: 'busy', role: 'img', 'aria-label': say('working') }) : null;
    const time = when(talk.time);
    const link = h(
      'a',
      { href: `#${talk.c}`, 'aria-current': current ? 'page' : null, title: talk.title },
      h('span', { class: 'talk-title' }, talk.title || say('untitled')),
      busy,
      h('time', { datetime: talk.time, title: time.exact }, time.short),
    );
    return h('li', { data: { testid: 'conversation', conversation: talk.c } }, link);
  }

  get isOpen() {
    return byId('menu').getAttribute('aria-expanded') === 'true';
  }

  toggle(open) {
    byId('menu').setAttribute('aria-expanded', String(open));
    byId('app').classList.toggle('side-open', open);
    byId('shade').hidden = !open;
  }
}
