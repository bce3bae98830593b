// Light, dark, or as the system has it.

import { byId } from './dom.js';
import { storage } from './storage.js';
import { text as say } from './texts.js';

const NAME = 'portway.theme';
const ORDER = ['auto', 'light', 'dark'];

export function startTheme() {
  let theme = storage.getItem(NAME) ?? 'auto';
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    byId('theme').textContent = say(`theme_${theme}`);
  };
  byId('theme').addEventListener('click', () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    storage.setItem(NAME, theme);
    apply();
  });
  apply();
}
