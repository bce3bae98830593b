// Blocks on the page. While a message is written only what changed is made anew: what stands above keeps its selection.

import { h, icon } from '../dom.js';
import { text as say } from '../texts.js';
import { parseBlocks } from './blocks.js';
import { inline } from './inline.js';

export class MarkdownView {
  constructor() {
    this.element = h('div', { class: 'markdown' });
    this.shown = [];
    this.text = '';
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    const blocks = parseBlocks(text);
    let same = 0;
    while (same < blocks.length && same < this.shown.length && blocks[same].source === this.shown[same]) same += 1;
    while (this.element.children.length > same) this.element.lastElementChild.remove();
    for (const block of blocks.slice(same)) this.element.append(blockNode(block));
    this.shown = blocks.map((block) => block.source);
  }
}

function blockNode(block) {
  switch (block.type) {
    case 'heading':
      // The page has headings of its own: those of a message stand below them.
      return h(`h${Math.min(block.level + 2, 6)}`, {}, inline(block.text));
    case 'rule':
      return h('hr');
    case 'quote':
      return h('blockquote', {}, block.blocks.map(blockNode));
    case 'list':
      return listNode(block);
    case 'table':
      return tableNode(block);
    case 'code':
      return codeNode(block);
    default:
      return h('p', {}, inline(block.text));
  }
}

function listNode(list) {
  const items = list.items.map((item) => {
    const box = item.checked === undefined ? null : h('input', { type: 'checkbox', disabled: true, checked: item.checked });
    const nodes = item.blocks.map((block) => {
      const loose = !list.tight || block.type !== 'paragraph';
      return loose ? blockNode(block) : h('span', { class: 'line' }, inline(block.text));
    });
    return h('li', { class: box ? 'task' : null }, box, nodes);
  });
  return list.ordered ? h('ol', { start: list.start === 1 ? null : list.start }, items) : h('ul', {}, items);
}

function tableNode(table) {
  const cell = (tag) => (text, column) => h(tag, { class: `to-${table.align[column] ?? 'left'}` }, inline(text));
  const head = h('thead', {}, h('tr', {}, table.head.map(cell('th'))));
  const body = h('tbody', {}, table.rows.map((row) => h('tr', {}, row.map(cell('td')))));
  return h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': table.head.join(', ') }, h('table', {}, head, body));
}

function codeNode(block) {
  const head = h('figcaption', {}, h('span', {}, block.language), copyButton(() => block.text));
  return h('figure', { class: block.language ? 'code' : 'code bare' }, head, h('pre', { tabindex: '0' }, h('code', {}, block.text)));
}

export function copyButton(read) {
  const button = h('button', { class: 'plain copy', type: 'button', 'aria-label': say('copy'), title: say('copy') }, icon('copy'));
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(read());
    } catch {
      // Without permission there is nothing to confirm.
      return;
    }
    button.replaceChildren(icon('done'));
    button.setAttribute('aria-label', say('copied'));
    setTimeout(() => {
      button.replaceChildren(icon('copy'));
      button.setAttribute('aria-label', say('copy'));
    }, 1500);
  });
  return button;
}
