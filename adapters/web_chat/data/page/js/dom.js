// Elements without markup: text is always text, so nothing that somebody wrote can become part of the page.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'on') for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === 'data') Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';
const PATHS = {
  attach: ['M20 11.5 12.3 19a5 5 0 0 1-7-7l8-8a3.4 3.4 0 0 1 4.8 4.8l-8 8a1.7 1.7 0 0 1-2.4-2.4l7.3-7.3'],
  send: ['M12 19V5', 'm6 11 6-6 6 6'],
  stop: ['M7 7h10v10H7z'],
  menu: ['M4 7h16', 'M4 12h16', 'M4 17h16'],
  down: ['M12 5v14', 'm6 13 6 6 6-6'],
  close: ['m7 7 10 10', 'm17 7-10 10'],
  file: ['M7 3h7l4 4v14H7z', 'M14 3v4h4'],
  copy: ['M9 9h10v11H9z', 'M15 9V4H5v11h4'],
  done: ['m5 12 5 5 9-10'],
  tool: ['m5 8 4 4-4 4', 'M12 17h7'],
  warning: ['M12 4 3 20h18z', 'M12 10v4', 'M12 17v.5'],
  retry: ['M19 12a7 7 0 1 1-2-5', 'M19 4v4h-4'],
};

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  for (const [key, value] of Object.entries({ viewBox: '0 0 24 24', class: `icon icon-${name}`, 'aria-hidden': 'true' })) {
    svg.setAttribute(key, value);
  }
  for (const d of PATHS[name]) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

export const byId = (id) => document.getElementById(id);

// The children of `parent` become `wanted`, in that order, with as few moves as possible: what stays keeps its focus,
// its selection and what was opened in it.
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let place = parent.firstElementChild;
  for (const child of wanted) {
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}
