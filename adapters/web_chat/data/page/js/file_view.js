// Files of a message: pictures are shown, sound and film played, everything else offered as a download.

import { h, icon } from './dom.js';
import { size, text as say } from './texts.js';

// Not SVG: it is a document that may hold scripts.
const PICTURE = /^image\/(png|jpeg|gif|webp|avif|bmp)$/;

export function fileNodes(files) {
  return files.length ? h('div', { class: 'files' }, files.map(fileNode)) : null;
}

function fileNode(file) {
  const address = `/files/${encodeURIComponent(file.id)}`;
  const name = file.name || file.id;
  if (PICTURE.test(file.mime)) {
    const image = h('img', { src: address, alt: say('image', { name }), loading: 'lazy', data: { testid: 'image' } });
    const frame = h('a', { class: 'picture', href: address, target: '_blank', rel: 'noopener' }, image);
    // A picture that cannot be read is a file like any other.
    image.addEventListener('error', () => frame.replaceWith(download(file, address, name)), { once: true });
    return frame;
  }
  if (file.mime.startsWith('audio/')) return h('audio', { controls: true, preload: 'metadata', src: address });
  if (file.mime.startsWith('video/')) return h('video', { controls: true, preload: 'metadata', src: address });
  return download(file, address, name);
}

function download(file, address, name) {
  const label = h('span', { class: 'file-name' }, name);
  const details = h('span', { class: 'file-size' }, file.size ? size(file.size) : '');
  return h(
    'a',
    { class: 'file', href: address, download: name, 'aria-label': say('download', { name }), data: { testid: 'file' } },
    icon('file'),
    label,
    details,
  );
}
