// Markdown, first half: a text becomes a list of blocks. The common subset: paragraphs, headings, lists, quotes, code,
// tables, rules. Nothing here touches the page, and no input makes it slow: each line is looked at a few times at most.

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const MARKER = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)|[ \t]*$|[ \t])/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const DEEPEST = 12;

export function parseBlocks(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, '\n').replace(/\t/g, '    ').split('\n');
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, end] = readBlock(lines, at, depth);
    block.source = lines.slice(at, end).join('\n');
    blocks.push(block);
    at = end;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return readCode(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [{ type: 'heading', level: heading[1].length, text: trimHashes(heading[2] ?? '') }, at + 1];
  if (RULE.test(line)) return [{ type: 'rule' }, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < DEEPEST && MARKER.test(line)) return readList(lines, at, depth);
  if (startsTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at, depth);
}

function trimHashes(text) {
  const bare = text.trimEnd();
  const cut = bare.replace(/#+$/, '');
  return cut === bare || (cut && !cut.endsWith(' ')) ? bare : cut.trimEnd();
}

function readCode(lines, at) {
  const [, mark, info] = FENCE.exec(lines[at]);
  const body = [];
  for (let next = at + 1; next < lines.length; next += 1) {
    const close = FENCE.exec(lines[next]);
    if (close && close[1].startsWith(mark) && !close[2].trim()) return [code(info, body, true), next + 1];
    body.push(lines[next]);
  }
  // Not closed: it is being written still.
  return [code(info, body, false), lines.length];
}

function code(info, body, closed) {
  return { type: 'code', language: info.trim().split(/\s+/)[0].slice(0, 40), text: body.join('\n'), closed };
}

function readQuote(lines, at, depth) {
  const inner = [];
  let next = at;
  while (next < lines.length && lines[next].trim()) {
    if (QUOTE.test(lines[next])) inner.push(lines[next].replace(QUOTE, ''));
    else if (interrupts(lines, next)) break;
    else inner.push(lines[next]);
    next += 1;
  }
  return [{ type: 'quote', blocks: parseBlocks(inner.join('\n'), depth + 1) }, next];
}

function readList(lines, at, depth) {
  const [, , first] = MARKER.exec(lines[at]);
  const ordered = /\d/.test(first);
  const kind = first.slice(-1);
  const list = { type: 'list', ordered, start: ordered ? Number.parseInt(first, 10) : 1, tight: true, items: [] };
  let next = at;
  while (next < lines.length) {
    const marker = MARKER.exec(lines[next]);
    if (!marker || marker[2].slice(-1) !== kind || RULE.test(lines[next])) break;
    const [item, end, spaced] = readItem(lines, next, marker, depth);
    list.items.push(item);
    if (spaced && MARKER.exec(lines[end] ?? '')?.[2].endsWith(kind)) list.tight = false;
    next = end;
  }
  return [list, next];
}

function readItem(lines, at, marker, depth) {
  const indent = marker[1].length + marker[2].length + (marker[3]?.length ?? 1);
  // Two spaces are enough to belong to an item: that is how most people, and most models, write.
  const enough = marker[1].length + 2;
  const inner = [lines[at].slice(Math.min(indent, lines[at].length))];
  let next = at + 1;
  let spaced = false;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    if (!line.trim()) {
      spaced = true;
      inner.push('');
      continue;
    }
    const spaces = line.length - line.trimStart().length;
    if (spaces < enough && (spaced || MARKER.test(line) || interrupts(lines, next))) break;
    inner.push(line.slice(Math.min(spaces, indent)));
    spaced = false;
  }
  while (inner.length > 1 && !inner.at(-1)) inner.pop();
  const task = /^\[([ xX])\] +/.exec(inner[0]);
  if (task) inner[0] = inner[0].slice(task[0].length);
  const item = { blocks: parseBlocks(inner.join('\n'), depth + 1), checked: task ? task[1] !== ' ' : undefined };
  return [item, next, spaced];
}

function startsTable(lines, at) {
  if (at + 1 >= lines.length || !lines[at].includes('|') || !lines[at + 1].includes('-')) return false;
  if (!DELIMITERS.test(lines[at + 1])) return false;
  return cells(lines[at]).length === cells(lines[at + 1]).length;
}

function readTable(lines, at) {
  const align = cells(lines[at + 1]).map((cell) => {
    if (cell.startsWith(':') && cell.endsWith(':')) return 'center';
    return cell.endsWith(':') ? 'right' : 'left';
  });
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].trim() && !interrupts(lines, next)) {
    const row = cells(lines[next]);
    rows.push(align.map((_, column) => row[column] ?? ''));
    next += 1;
  }
  return [{ type: 'table', align, head: cells(lines[at]), rows }, next];
}

function cells(line) {
  const bare = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));
}

function readParagraph(lines, at, depth) {
  let next = at + 1;
  while (next < lines.length && lines[next].trim() && !interrupts(lines, next) && !startsItem(lines[next], depth)) {
    if (startsTable(lines, next)) break;
    next += 1;
  }
  return [{ type: 'paragraph', text: lines.slice(at, next).map((line) => line.trimStart()).join('\n').trimEnd() }, next];
}

function startsItem(line, depth) {
  const marker = depth < DEEPEST ? MARKER.exec(line) : null;
  // A number within a sentence that happens to begin a line is no list; one that counts from 1 is.
  return marker !== null && marker[0].trim() !== line.trim() && (!/\d/.test(marker[2]) || Number.parseInt(marker[2], 10) === 1);
}

function interrupts(lines, at) {
  const line = lines[at];
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line);
}
