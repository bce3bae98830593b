// The WebSocket: made again for ever, with pauses that grow and differ. What was missed is not its affair: whoever uses
// it asks again from where they were when it says `ready`.

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 8000;
const PROBE_AFTER = 20_000;
const PROBE_WITHIN = 8000;

export class Connection extends EventTarget {
  constructor() {
    super();
    this.state = 'connecting';
    this.socket = null;
    this.pause = FIRST_PAUSE;
    this.timer = 0;
    this.heard = Date.now();
    addEventListener('online', () => this.now());
    document.addEventListener('visibilitychange', () => this.probe());
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    this.socket = socket;
    let opened = false;
    socket.addEventListener('open', () => {
      opened = true;
    });
    socket.addEventListener('message', (event) => {
      if (socket !== this.socket) return;
      this.heard = Date.now();
      this.receive(JSON.parse(event.data));
    });
    socket.addEventListener('close', () => {
      if (socket === this.socket) this.lost(opened);
    });
  }

  // True if it was handed to the network. That says nothing about whether it arrived.
  send(frame) {
    if (this.state !== 'ready' || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  receive(frame) {
    if (frame.t === 'ready') {
      this.pause = FIRST_PAUSE;
      this.change('ready');
    }
    this.dispatchEvent(new CustomEvent('frame', { detail: frame }));
  }

  lost(opened) {
    this.socket = null;
    this.change('reconnecting');
    const wait = this.pause * (0.5 + Math.random() / 2);
    this.pause = Math.min(this.pause * 1.8, LONGEST_PAUSE);
    this.timer = setTimeout(() => this.open(), wait);
    if (!opened) this.askWhy();
  }

  // A socket that is refused does not say why. If the session is over, the sign-in has to be shown.
  async askWhy() {
    try {
      const answer = await fetch('/api/session', { headers: { Accept: 'application/json' } });
      if (answer.status === 401) this.dispatchEvent(new Event('signedout'));
    } catch {
      // Nobody is there: the next attempt finds out.
    }
  }

  now() {
    if (this.state !== 'reconnecting' || this.socket) return;
    this.pause = FIRST_PAUSE;
    this.open();
  }

  // After a sleep of the machine a dead connection can look alive: ask for something, and expect to hear anything.
  probe() {
    if (document.hidden) return;
    this.now();
    if (this.state !== 'ready' || Date.now() - this.heard < PROBE_AFTER) return;
    const asked = Date.now();
    this.send({ t: 'list' });
    setTimeout(() => {
      if (this.state === 'ready' && this.heard < asked && this.socket) this.drop();
    }, PROBE_WITHIN);
  }

  drop() {
    const socket = this.socket;
    this.lost(true);
    socket.close();
  }

  change(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}
