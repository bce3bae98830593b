// One conversation as this page knows it: messages of the transcript in order, and the runs that answer now. Messages are
// told apart by their id, so that whatever comes twice is there once.

export class Conversation extends EventTarget {
  constructor(id) {
    super();
    this.id = id;
    this.items = [];
    this.known = new Set();
    this.runs = new Map();
    this.finished = new Map();
    this.before = '';
    this.after = '';
    this.loaded = false;
    this.grewAbove = false;
    this.typing = false;
  }

  receive(frame) {
    switch (frame.t) {
      case 'page':
        this.page(frame);
        break;
      case 'items':
        this.append(frame.items);
        this.after = frame.after || this.after;
        break;
      case 'older':
        this.prepend(frame);
        break;
      case 'run':
        this.patch(frame);
        break;
      case 'typing':
        this.typing = frame.on;
        break;
      case 'gone':
        this.gone(frame.run);
        break;
      default:
        return;
    }
    this.dispatchEvent(new Event('change'));
  }

  page(frame) {
    if (frame.reset) {
      this.items = [];
      this.known = new Set();
      this.before = frame.before;
    }
    // What goes on is told anew behind this frame.
    this.runs.clear();
    this.append(frame.items);
    this.after = frame.after || this.after;
    this.loaded = true;
  }

  append(items) {
    for (const item of items) {
      if (this.known.has(item.id)) continue;
      this.known.add(item.id);
      this.items.push(item);
    }
  }

  prepend(frame) {
    const older = frame.items.filter((item) => !this.known.has(item.id));
    for (const item of older) this.known.add(item.id);
    this.items = [...older, ...this.items];
    this.grewAbove = true;
    this.before = frame.before;
  }

  patch(frame) {
    const run = this.runs.get(frame.run) ?? { id: frame.run, blocks: [] };
    if (frame.fresh) run.blocks = [];
    for (const { i, append, ...news } of frame.blocks) {
      const block = run.blocks[i] ?? {};
      // A block is an object of its own each time it changes: views compare objects, not their depths.
      run.blocks[i] = { ...block, ...news };
      if (append !== undefined) run.blocks[i].text = (block.text ?? '') + append;
    }
    const { state, progress, files, notice, ended } = frame;
    Object.assign(run, { state, progress, files, notice, ended });
    this.runs.set(frame.run, run);
  }

  gone(runId) {
    const run = this.runs.get(runId);
    if (!run) return;
    this.runs.delete(runId);
    // What it did on the way stays visible above what it said.
    this.finished.set(runId, run.blocks);
  }

  // The steps of an answer from earlier, read afterwards.
  recall(runId, blocks) {
    if (this.runs.has(runId) || this.finished.has(runId)) return;
    this.finished.set(runId, blocks);
    if (blocks.some((block) => block.type === 'tool')) this.dispatchEvent(new Event('change'));
  }

  get live() {
    return [...this.runs.values()].filter((run) => !run.ended);
  }

  // What is to be shown, from top to bottom: messages, each with the tool calls that led to it, then what goes on.
  rows() {
    const before = new Map();
    const tail = [];
    for (const [id, blocks] of this.finished) this.place(id, blocks, before, null);
    for (const run of this.runs.values()) {
      const rest = [];
      this.place(run.id, run.blocks, before, rest);
      tail.push(...rest);
      if (!run.ended || !this.hasSaid(run)) tail.push({ type: 'state', key: `state:${run.id}`, run });
    }
    const rows = [];
    for (const item of this.items) {
      rows.push(...(before.get(item.id) ?? []), { type: 'item', key: `item:${item.id}`, item });
    }
    return [...rows, ...tail];
  }

  // Each tool call belongs to the message that came after it, or during which it was made. What has none yet goes to
  // `rest`, in the order that it will have then; of a run that is over it belongs to the last thing the run said.
  place(runId, blocks, before, rest) {
    const open = [];
    let waiting = [];
    const add = (id) => {
      if (waiting.length) before.set(id, [...(before.get(id) ?? []), ...waiting]);
      waiting = [];
    };
    blocks.forEach((block, index) => {
      if (block.type === 'tool') waiting.push({ type: 'tool', key: `tool:${runId}:${block.call}`, block });
      else if (block.item && this.known.has(block.item)) add(block.item);
      else {
        const row = { type: 'live', key: `live:${runId}:${block.type}:${block.key || index}`, block };
        (block.type === 'reasoning' ? waiting : open).push(row);
      }
    });
    if (rest) rest.push(...waiting, ...open);
    else add(this.items.findLast((item) => item.run === runId && item.role !== 'user')?.id);
  }

  hasSaid(run) {
    return this.items.some((item) => item.run === run.id && item.role !== 'user');
  }
}
