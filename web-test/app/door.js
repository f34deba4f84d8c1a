// What happens at the door: the driver shows that an order was handed over, or says why it was not.

import { byId, h, render } from './dom.js';

export const REASONS = {
  nobody_home: 'Nobody is home', wrong_address: 'The address is wrong', refused: 'They do not want it',
  damaged: 'It is damaged', unsafe: 'It is not safe there', other: 'Something else',
};

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** SHA-256 exists in secure contexts only; elsewhere the page cannot prove a picture. */
const canHash = () => Boolean(crypto.subtle);

/** A pad to sign on, with a finger, a pen or a mouse. Who cannot draw types the name: it is drawn for them. */
class Pad {
  #canvas;
  #pen;
  #drawn = false;

  attach(canvas) {
    if (!canvas || canvas === this.#canvas) return;
    this.#canvas = canvas;
    this.#pen = canvas.getContext('2d');
    this.clear();
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
    };
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#pen.beginPath();
      this.#pen.moveTo(...at(event));
    });
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons === 0) return;
      this.#pen.lineTo(...at(event));
      this.#pen.stroke();
      this.#drawn = true;
    });
  }

  clear() {
    const { width, height } = this.#canvas;
    this.#pen.fillStyle = '#ffffff';
    this.#pen.fillRect(0, 0, width, height);
    this.#pen.strokeStyle = this.#pen.fillStyle = '#18201c';
    this.#pen.lineWidth = 3;
    this.#pen.lineJoin = this.#pen.lineCap = 'round';
    this.#drawn = false;
  }

  write(name) {
    this.clear();
    this.#pen.font = 'italic 42px serif';
    this.#pen.fillText(name, 16, 88, this.#canvas.width - 32);
    this.#drawn = Boolean(name);
  }

  /** The picture, or nothing if nobody has signed. */
  picture() {
    return this.#drawn ? new Promise((done) => { this.#canvas.toBlob(done, 'image/png'); }) : null;
  }
}

/** @returns {(order, rest, done) => void} opens the dialog of one order */
export function createDoorDialog() {
  const dialog = byId('door');
  const pad = new Pad();
  let order = null;
  let rest = null;
  let done = () => {};
  let problem = '';
  let missing = [];

  async function act(work) {
    problem = '';
    try {
      await work();
    } catch (error) {
      problem = error.attemptsLeft === undefined ? error.message : `That is not the customer’s number. ${error.attemptsLeft} attempts are left.`;
    }
    await look();
  }

  async function look() {
    try {
      ({ missing } = await rest.proofs(order.id));
    } catch (error) {
      problem ||= error.message;
    }
    draw();
  }

  async function prove(kind) {
    const blob = kind === 'signature' ? await pad.picture() : byId('door-photo').files[0];
    if (!blob) throw new Error(kind === 'signature' ? 'Nobody has signed yet' : 'Choose a photo first');
    const sha256 = hex(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer()));
    // A real app keeps the picture in its own store and says where. This page only shows its hash.
    await rest.prove(order.id, { kind, reference: `test-page/${sha256}`, sha256, mediaType: blob.type || 'image/jpeg', capturedAt: new Date().toISOString() });
  }

  const button = (name, label, kind, onclick) => h('button', { type: 'button', class: `button ${kind}`, 'data-testid': `door-${name}`, onclick }, label);

  function draw() {
    const number = order.orderNumber;
    const part = (kind, title, ...children) => h('section', { key: kind, class: 'door-part', 'data-testid': `door-part-${kind}`, 'data-missing': String(missing.includes(kind)) },
      h('h3', {}, title, ' ', h('span', { class: `chip ${missing.includes(kind) ? '' : 'phase-done'}` }, missing.includes(kind) ? 'needed' : 'done')),
      missing.includes(kind) && children);
    const required = order.proofRequired ?? [];
    render(dialog, h('div', { class: 'connect-form' },
      h('header', { class: 'dialog-head' }, h('h2', { id: 'door-title' }, `At the door: ${number}`)),
      problem && h('p', { class: 'inline-error', role: 'alert', key: 'problem', 'data-testid': 'door-problem' }, problem),
      required.includes('pin') && part('pin', 'The customer’s number',
        h('form', { class: 'inline-form', onsubmit: (event) => {
          event.preventDefault();
          act(() => rest.prove(order.id, { kind: 'pin', pin: byId('door-pin').value }));
        } },
        h('input', { id: 'door-pin', type: 'text', inputmode: 'numeric', maxlength: '4', autocomplete: 'off', 'aria-label': 'The four digits that the customer says', 'data-testid': 'door-pin' }),
        h('button', { type: 'submit', class: 'button primary', 'data-testid': 'door-pin-check' }, 'Check'))),
      required.includes('signature') && part('signature', 'Signature',
        h('canvas', { id: 'door-pad', class: 'pad', width: '560', height: '140', 'data-testid': 'door-pad', role: 'img', 'aria-label': 'Sign here, or type the name below' }),
        h('input', { type: 'text', placeholder: 'or type the name', autocomplete: 'off', 'aria-label': 'Name of who signs, typed', 'data-testid': 'door-name', oninput: (event) => pad.write(event.target.value) }),
        h('div', { class: 'card-actions' }, button('sign-clear', 'Clear', 'small', () => pad.clear()), button('sign', 'Take signature', 'primary small', () => act(() => prove('signature'))))),
      required.includes('photo') && part('photo', 'Photo',
        h('input', { id: 'door-photo', type: 'file', accept: 'image/*', capture: 'environment', 'aria-label': 'Photo of the handover', 'data-testid': 'door-photo' }),
        button('photo-take', 'Take photo', 'primary small', () => act(() => prove('photo')))),
      !canHash() && required.length > 0 && h('p', { class: 'hint', key: 'insecure' }, 'Pictures need https: browsers make no hashes elsewhere.'),
      h('section', { class: 'door-part', key: 'fail' }, h('h3', {}, 'It cannot be delivered'),
        h('form', { class: 'inline-form', onsubmit: (event) => {
          event.preventDefault();
          act(async () => {
            await rest.fail(order.id, byId('door-reason').value);
            done();
            dialog.close();
          });
        } },
        h('select', { id: 'door-reason', 'aria-label': 'Why it cannot be delivered', 'data-testid': 'door-reason' }, Object.entries(REASONS).map(([value, label]) => h('option', { key: value, value }, label))),
        h('button', { type: 'submit', class: 'button danger', 'data-testid': 'door-fail' }, 'Say so'))),
      h('footer', { class: 'dialog-foot' }, h('button', { type: 'button', class: 'button primary', 'data-testid': 'door-close', onclick: () => { done(); dialog.close(); } }, 'Close'))));
    pad.attach(byId('door-pad'));
  }

  return (chosen, caller, finished) => {
    [order, rest, done, problem, missing] = [chosen, caller, finished, '', chosen.proofRequired ?? []];
    dialog.showModal();
    draw();
    look();
  };
}
