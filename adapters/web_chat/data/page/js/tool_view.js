// A tool call: its name, what it was asked, what came out, and whether it still runs.

import { h, icon } from './dom.js';
import { text as say } from './texts.js';

const SUMMARY = 200;

export class ToolView {
  constructor() {
    this.title = h('span', { class: 'tool-name' });
    this.summary = h('code', { class: 'tool-summary' });
    this.state = h('span', { class: 'tool-state' });
    this.arguments = h('pre', { tabindex: '0' });
    this.output = h('pre', { tabindex: '0', data: { testid: 'tool-output' } });
    this.head = h('summary', {}, icon('tool'), this.title, this.summary, this.state);
    this.full = h('div', { class: 'tool-part' }, h('h4', {}, say('tool_arguments')), this.arguments);
    this.result = h('div', { class: 'tool-part' }, h('h4', {}, say('tool_output')), this.output);
    this.details = h('details', {}, this.head, this.full, this.result);
    this.element = h('li', { class: 'row tool', data: { testid: 'tool' } }, this.details);
  }

  update({ block }) {
    if (block === this.block) return;
    const began = this.block === undefined;
    this.block = block;
    const { line, more } = describe(block.args);
    const state = block.running ? 'running' : block.error ? 'failed' : 'done';
    this.element.dataset.state = state;
    this.title.textContent = block.tool;
    this.summary.textContent = line.length > SUMMARY ? `${line.slice(0, SUMMARY)}…` : line;
    this.arguments.textContent = more;
    this.full.hidden = !more;
    this.state.textContent = stateText(block, state);
    this.output.textContent = outputText(block);
    this.result.hidden = block.running;
    // While it runs, and when it failed, there is something to see; afterwards it makes room.
    if (began && block.running) this.details.open = true;
  }
}

function stateText(block, state) {
  const seconds = block.seconds ? ` · ${duration(block.seconds)}` : '';
  if (block.error === 'interrupted') return say('tool_interrupted');
  return say(`tool_${state}`) + seconds;
}

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

function outputText(block) {
  const error = block.error && block.error !== 'interrupted' ? block.error : '';
  return [block.output, error].filter(Boolean).join('\n') || say('tool_no_output');
}

// One line that says what was asked: the command where there is one, else the arguments. `more` is the whole, where one
// line is not.
function describe(text) {
  let value;
  try {
    value = JSON.parse(text || '{}');
  } catch {
    return { line: text, more: '' };
  }
  const command = value.command ?? value.argv ?? value.cmd;
  const others = Object.keys(value).length > 1;
  const whole = JSON.stringify(value, null, 2);
  if (Array.isArray(command)) return { line: command.map(quoted).join(' '), more: others ? whole : '' };
  if (typeof command === 'string') {
    const long = command.includes('\n') || command.length > SUMMARY;
    return { line: command.split('\n')[0], more: others ? whole : long ? command : '' };
  }
  if (!Object.keys(value).length) return { line: '', more: '' };
  const line = JSON.stringify(value);
  return { line, more: line.length > 80 ? whole : '' };
}

function quoted(word) {
  const plain = String(word);
  return /^[\w./:=@%+,-]+$/.test(plain) ? plain : `'${plain.replace(/'/g, "'\\''")}'`;
}
