// Markdown, second half: the text of one block becomes nodes. Everything that was written stays text; an address becomes
// a link only if its scheme is known to be harmless.

import { h } from '../dom.js';

const SAFE = /^(?:https?:\/\/|mailto:)[^\s]+$/i;
const BARE = /^https?:\/\/[^\s<>"'`]+/i;
const ANGLED = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/i;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPECIAL = /[\\`*_~[!<\nh]/g;
const DEEPEST = 16;
const LONGEST_LABEL = 1000;

export function inline(text, depth = 0) {
  const out = [];
  const failed = new Set();
  let plain = '';
  let at = 0;
  const flush = () => {
    if (plain) out.push(document.createTextNode(plain));
    plain = '';
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const special = SPECIAL.exec(text);
    const stop = special ? special.index : text.length;
    plain += text.slice(at, stop);
    if (!special) break;
    const found = depth < DEEPEST ? read(text, stop, failed, depth) : null;
    if (found) {
      flush();
      out.push(...found.nodes);
      at = found.end;
    } else {
      const length = text[stop] === '\\' && ESCAPABLE.test(text[stop + 1] ?? '') ? 2 : 1;
      plain += text.slice(stop + length - 1, stop + length);
      at = stop + length;
    }
  }
  flush();
  return out;
}

function read(text, at, failed, depth) {
  switch (text[at]) {
    case '\n':
      return { nodes: [h('br')], end: at + 1 };
    case '\\':
      return text[at + 1] === '\n' ? { nodes: [h('br')], end: at + 2 } : null;
    case '`':
      return readCode(text, at, failed);
    case '*':
    case '_':
    case '~':
      return readEmphasis(text, at, failed, depth);
    case '[':
      return readLink(text, at, depth);
    case '!':
      // A picture from elsewhere is not loaded: it would tell its owner who reads this. Its link is shown.
      return text[at + 1] === '[' ? readLink(text, at + 1, depth) : null;
    case '<':
      return readAngled(text, at);
    default:
      return readBare(text, at);
  }
}

function readCode(text, at, failed) {
  const mark = /^`+/.exec(text.slice(at, at + 64))[0];
  if (failed.has(mark)) return { nodes: [document.createTextNode(mark)], end: at + mark.length };
  for (let close = text.indexOf(mark, at + mark.length); close >= 0; ) {
    const end = close + mark.length;
    if (text[end] !== '`' && text[close - 1] !== '`') {
      const body = text.slice(at + mark.length, close).replace(/\n/g, ' ');
      const padded = body.length > 2 && body.startsWith(' ') && body.endsWith(' ') && body.trim();
      return { nodes: [h('code', {}, padded ? body.slice(1, -1) : body)], end };
    }
    let after = end;
    while (text[after] === '`') after += 1;
    close = text.indexOf(mark, after);
  }
  failed.add(mark);
  return { nodes: [document.createTextNode(mark)], end: at + mark.length };
}

const TAGS = { '***': ['strong', 'em'], ___: ['strong', 'em'], '**': ['strong'], __: ['strong'], '*': ['em'], _: ['em'], '~~': ['del'] };
const WORD = /[\p{L}\p{N}]/u;

function readEmphasis(text, at, failed, depth) {
  const sign = text[at];
  let length = 1;
  while (text[at + length] === sign) length += 1;
  const mark = sign.repeat(Math.min(length, 3));
  const before = text[at - 1] ?? ' ';
  const after = text[at + length] ?? ' ';
  const opens = TAGS[mark] && /\S/.test(after) && !(sign === '_' && WORD.test(before));
  if (!opens || length > 3 || failed.has(mark)) return literally(text, at, length);
  const close = findClose(text, at + length, mark);
  if (close < 0) {
    failed.add(mark);
    return literally(text, at, length);
  }
  let nodes = inline(text.slice(at + length, close), depth + 1);
  for (const tag of [...TAGS[mark]].reverse()) nodes = [h(tag, {}, nodes)];
  return { nodes, end: close + mark.length };
}

function literally(text, at, length) {
  return { nodes: [document.createTextNode(text.slice(at, at + length))], end: at + length };
}

// The first run of exactly this mark behind something that is not a space. Code and escapes are stepped over.
function findClose(text, from, mark) {
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '`') {
      const close = text.indexOf('`', at + 1);
      if (close > 0) at = close;
    } else if (text[at] === mark[0]) {
      let length = 1;
      while (text[at + length] === mark[0]) length += 1;
      const word = mark[0] === '_' && WORD.test(text[at + length] ?? ' ');
      const fits = length === mark.length || (length === 3 && mark.length < 3);
      if (fits && at > from && /\S/.test(text[at - 1]) && !word) return length === 3 ? at + 3 - mark.length : at;
      at += length - 1;
    }
  }
  return -1;
}

function readLink(text, at, depth) {
  let level = 0;
  let close = -1;
  for (let next = at; next < Math.min(text.length, at + LONGEST_LABEL); next += 1) {
    if (text[next] === '\\') next += 1;
    else if (text[next] === '[') level += 1;
    else if (text[next] === ']' && (level -= 1) === 0) {
      close = next;
      break;
    }
  }
  if (close < 0) return null;
  const target = /^\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(text.slice(close + 1, close + 2050));
  if (!target) return null;
  const label = text.slice(at + 1, close);
  const end = close + 1 + target[0].length;
  if (!SAFE.test(target[1])) return { nodes: inline(label || target[1], depth + 1), end };
  return { nodes: [link(target[1], label ? inline(label, depth + 1) : [target[1]])], end };
}

function readAngled(text, at) {
  const match = ANGLED.exec(text.slice(at, at + 2050));
  return match ? { nodes: [link(match[1], [match[1]])], end: at + match[0].length } : null;
}

function readBare(text, at) {
  if (!text.startsWith('http', at) || WORD.test(text[at - 1] ?? ' ')) return null;
  const match = BARE.exec(text.slice(at, at + 2050));
  if (!match) return null;
  // What closes the sentence is not part of the address, and neither is a bracket that was opened before it.
  let address = match[0].replace(/[.,;:!?*_~，。；：！？、]+$/u, '');
  while (address.endsWith(')') && address.split(')').length > address.split('(').length) address = address.slice(0, -1);
  return SAFE.test(address) ? { nodes: [link(address, [address])], end: at + address.length } : null;
}

function link(address, nodes) {
  return h('a', { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' }, nodes);
}
