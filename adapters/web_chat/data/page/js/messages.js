// The list of messages: keeps one view per row, scrolls along with what is written, and reads older messages and the
// steps of earlier answers when they come into sight.

import { arrange, byId } from './dom.js';
import { ItemView, LiveView, PendingView, StateView } from './message_views.js';
import { text as say } from './texts.js';
import { ToolView } from './tool_view.js';

const NEAR = 80;
const STEPS_AT_ONCE = 3;

export class Messages {
  constructor(outbox, connection, onEdit) {
    this.outbox = outbox;
    this.connection = connection;
    this.make = {
      item: () => new ItemView((answer) => connection.send({ t: 'answer', c: this.conversation.id, ...answer })),
      live: () => new LiveView(),
      tool: () => new ToolView(),
      state: () => new StateView(),
      pending: () => new PendingView(outbox, onEdit),
    };
    this.views = new Map();
    this.list = byId('messages');
    this.scroll = byId('scroll');
    this.following = true;
    this.spoken = new Set();
    this.wantSteps = [];
    this.readingSteps = 0;
    this.sight = new IntersectionObserver((entries) => this.cameIntoSight(entries), { root: this.scroll });
    this.scroll.addEventListener('scroll', () => this.scrolled(), { passive: true });
    byId('latest').addEventListener('click', () => this.follow());
    byId('older').addEventListener('click', () => this.readOlder());
    new ResizeObserver(() => this.stay()).observe(this.list);
  }

  show(conversation) {
    this.conversation = conversation;
    this.views.clear();
    this.list.replaceChildren();
    this.spoken.clear();
    this.wantSteps = [];
    this.following = true;
    this.render();
  }

  // Once for everything that changed since the last picture.
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    const draw = () => {
      this.scheduled = false;
      this.render();
    };
    // A page in the background draws nothing, but should be right when it is looked at.
    if (document.hidden) setTimeout(draw, 100);
    else requestAnimationFrame(draw);
  }

  render() {
    const { conversation } = this;
    this.outbox.arrived(conversation.known);
    const pending = this.outbox.of(conversation.id).map((entry) => ({ type: 'pending', key: `pending:${entry.key}`, entry }));
    const rows = conversation.rows();
    // What was just written stands above the answer to it.
    const live = rows.findIndex((row) => row.type === 'live' || row.type === 'state');
    rows.splice(live < 0 ? rows.length : live, 0, ...pending);
    const fromEnd = this.scroll.scrollHeight - this.scroll.scrollTop;
    arrange(this.list, rows.map((row) => this.view(row).element));
    if (conversation.grewAbove) this.scroll.scrollTop = this.scroll.scrollHeight - fromEnd;
    conversation.grewAbove = false;
    this.forget(rows);
    byId('older').hidden = !conversation.before;
    byId('welcome').hidden = rows.length > 0 || !conversation.loaded;
    this.speak(conversation);
    this.stay();
  }

  view(row) {
    let view = this.views.get(row.key);
    if (!view) {
      view = this.make[row.type]();
      this.views.set(row.key, view);
      if (row.type === 'item' && row.item.role !== 'user' && row.item.run) this.sight.observe(view.element);
    }
    view.update(row);
    return view;
  }

  // What became of an answer that this page sent.
  answered(frame) {
    for (const view of this.views.values()) {
      if (view.question?.id === frame.id) view.question.answered(frame);
    }
  }

  forget(rows) {
    if (this.views.size === rows.length) return;
    const keep = new Set(rows.map((row) => row.key));
    for (const key of this.views.keys()) if (!keep.has(key)) this.views.delete(key);
  }

  // A screen reader hears that an answer begins, and the answer once it is whole: not every word of it twice.
  speak(conversation) {
    const say_ = (words) => {
      byId('spoken').textContent = words;
    };
    const first = this.spoken.size === 0;
    for (const run of conversation.live) {
      if (!this.spoken.has(run.id) && !first) say_(say('answering'));
      this.spoken.add(run.id);
    }
    for (const item of conversation.items) {
      if (this.spoken.has(item.id)) continue;
      this.spoken.add(item.id);
      if (!first && item.role !== 'user') say_(item.text);
    }
    this.spoken.add('');
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroll;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR;
    byId('latest').hidden = this.following;
  }

  follow() {
    this.following = true;
    this.stay();
  }

  // At the end, if that is where the person is; otherwise nothing moves under their eyes.
  stay() {
    if (this.following) this.scroll.scrollTop = this.scroll.scrollHeight;
    byId('latest').hidden = this.following;
  }

  readOlder() {
    const { id, before } = this.conversation;
    this.connection.send({ t: 'older', c: id, before });
    this.following = false;
  }

  cameIntoSight(entries) {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      this.sight.unobserve(entry.target);
      const run = entry.target.dataset.run;
      if (run && !this.conversation.finished.has(run) && !this.conversation.runs.has(run)) this.wantSteps.push(run);
    }
    this.readSteps();
  }

  async readSteps() {
    while (this.wantSteps.length && this.readingSteps < STEPS_AT_ONCE) {
      const run = this.wantSteps.pop();
      const { conversation } = this;
      if (conversation.finished.has(run)) continue;
      this.readingSteps += 1;
      try {
        const answer = await fetch(`/api/runs/${encodeURIComponent(run)}/steps`);
        if (answer.ok) conversation.recall(run, (await answer.json()).blocks);
      } catch {
        // The steps are an extra: without them the answer is there all the same.
      }
      this.readingSteps -= 1;
    }
  }
}
