// Puts the page together: which conversation is shown, what the connection brings, what the person does.

import { Composer } from './composer.js';
import { Connection } from './connection.js';
import { Conversation } from './conversation.js';
import { byId, h, icon } from './dom.js';
import { Messages } from './messages.js';
import { Outbox, newKey } from './outbox.js';
import { Sidebar } from './sidebar.js';
import { text as say, translatePage } from './texts.js';
import { startTheme } from './theme.js';

const NAME = /^web-[A-Za-z0-9_-]{8,100}$/;

translatePage();
startTheme();

const connection = new Connection();
const outbox = new Outbox(connection);
const sidebar = new Sidebar(connection);
const composer = new Composer();
const messages = new Messages(outbox, connection, (entry) => {
  outbox.remove(entry.key);
  composer.edit(entry.text, entry.files);
});
let conversation = null;
let host = { state: 'connected', detail: '' };

function show(id) {
  conversation = new Conversation(id);
  conversation.addEventListener('change', changed);
  // A new conversation has nothing to wait for.
  conversation.loaded = fresh.delete(id);
  messages.show(conversation);
  composer.show(id);
  sidebar.show(id);
  changed();
  read();
}

function read() {
  if (conversation) connection.send({ t: 'open', c: conversation.id, after: conversation.after });
}

function changed() {
  messages.schedule();
  composer.running(conversation.live.length > 0);
  drawTyping();
}

const fresh = new Set();

function startNew() {
  const id = `web-${newKey()}`;
  fresh.add(id);
  location.hash = id;
  byId('input').focus();
}

function route() {
  const id = location.hash.slice(1);
  if (NAME.test(id)) {
    if (id !== conversation?.id) show(id);
  } else startNew();
}

function receive(frame) {
  if (frame.c && frame.c !== conversation.id && frame.t !== 'ack') return;
  switch (frame.t) {
    case 'ready':
      composer.configure(frame.limits);
      hostChanged(frame.host);
      read();
      outbox.resend();
      sidebar.refresh();
      break;
    case 'host':
      hostChanged(frame);
      // What could not be read while it was away is read now.
      if (frame.state === 'connected') read();
      break;
    case 'ack':
      outbox.accepted(frame);
      sidebar.refresh();
      break;
    case 'refused':
      outbox.refused(frame);
      break;
    case 'list':
      sidebar.receive(frame);
      break;
    case 'answered':
    case 'answer_refused':
      messages.answered(frame);
      break;
    case 'resync':
      read();
      break;
    case 'error':
      failed(frame);
      break;
    default:
      conversation.receive(frame);
      if (frame.t === 'gone') sidebar.refresh();
  }
}

const FAILURES = { open: 'open_failed', older: 'open_failed', cancel: 'cancel_failed', list: 'list_failed' };

function failed(frame) {
  // While the host is away the status line says so, once, for everything.
  if (host.state !== 'connected' && frame.retry) return;
  composer.uploads.problem(say(FAILURES[frame.about] ?? 'not_sent', { message: frame.message }));
  composer.draw();
}

function hostChanged(state) {
  host = state;
  drawStatus();
}

function drawStatus() {
  const line = byId('status');
  let [state, words] = ['good', say('connected')];
  if (connection.state !== 'ready') [state, words] = ['bad', say(connection.state)];
  else if (host.state === 'closed') [state, words] = ['bad', say('host_closed')];
  else if (host.state !== 'connected') [state, words] = ['bad', say('host_away')];
  if (line.dataset.state === state && line.lastChild?.textContent === words) return;
  line.dataset.state = state;
  line.title = connection.state === 'ready' ? (host.detail ?? '') : '';
  line.replaceChildren(h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', {}, words));
}

function drawTyping() {
  // What the host last said is not known to hold while nobody can be heard.
  byId('typing').hidden = !conversation?.typing || connection.state !== 'ready';
}

function stopAnswer() {
  const run = conversation.live.findLast((one) => one.state !== 'cancelling');
  if (run) connection.send({ t: 'cancel', run: run.id });
}

connection.addEventListener('frame', (event) => receive(event.detail));
connection.addEventListener('state', () => {
  if (connection.state !== 'ready') {
    outbox.disconnected();
    if (conversation) conversation.typing = false;
  }
  drawTyping();
  drawStatus();
});
connection.addEventListener('signedout', () => location.reload());
outbox.addEventListener('change', () => {
  if (outbox.storageFull) {
    outbox.storageFull = false;
    composer.uploads.problem(say('storage_full'));
    composer.draw();
  }
  if (conversation) messages.schedule();
});
composer.addEventListener('send', (event) => {
  const { text, files } = event.detail;
  outbox.add(conversation.id, text, files);
  messages.follow();
});
composer.addEventListener('stop', stopAnswer);
addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || event.isComposing) return;
  // What lies on top goes first.
  if (sidebar.isOpen) sidebar.toggle(false);
  else stopAnswer();
});
addEventListener('hashchange', route);
byId('new').addEventListener('click', startNew);
byId('latest').append(icon('down'));
for (const name of ['idea_1', 'idea_2']) {
  const idea = h('button', { class: 'idea', type: 'button' }, say(name));
  idea.addEventListener('click', () => composer.edit(say(name)));
  byId('ideas').append(idea);
}

drawStatus();
route();
connection.open();
