// The browser's storage; where it is switched off, memory of this page alone, so that the page works all the same.

class Memory {
  constructor() {
    this.values = new Map();
  }

  get length() {
    return this.values.size;
  }

  key(index) {
    return [...this.values.keys()][index];
  }

  getItem(name) {
    return this.values.get(name) ?? null;
  }

  setItem(name, value) {
    this.values.set(name, value);
  }

  removeItem(name) {
    this.values.delete(name);
  }
}

function browserStorage() {
  try {
    // Only read: a storage that is full still holds what was not sent.
    return localStorage.length >= 0 ? localStorage : null;
  } catch {
    return null;
  }
}

export const storage = browserStorage() ?? new Memory();
