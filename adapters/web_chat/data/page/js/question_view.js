// A question to the person: a form, a confirmation or a choice, with ordinary fields and buttons, so that keyboard and
// screen reader work as everywhere. An approval is a confirmation of the host.

import { h } from './dom.js';
import { text as say } from './texts.js';

const TYPE = 'INTERACTION_FIELD_TYPE_';
let count = 0;

export class QuestionView {
  constructor(item, submit) {
    const { shown, state, run, approval, answer } = item.question;
    this.id = shown.interaction_id;
    this.run = run;
    this.submit = submit;
    this.shown = shown;
    this.key = `answer-${crypto.randomUUID()}`;
    this.name = `question-${(count += 1)}`;
    this.words = h('p', { class: 'question-state', role: 'status', data: { testid: 'question-state' } });
    this.buttons = (shown.actions ?? []).map((action) => this.button(action));
    this.fields = (shown.fields ?? []).map((field) => ({ field, ...this.input(field) }));
    const text = shown.description ? h(approval ? 'pre' : 'p', { class: 'question-text' }, shown.description) : null;
    const title = h('legend', {}, shown.title || item.text);
    this.set = h('fieldset', {}, title, text, this.fields.map((one) => one.row), h('div', { class: 'question-buttons' }, this.buttons));
    this.element = h('form', { class: 'question', data: { testid: 'question', state, approval: String(approval) } }, this.set, this.words);
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.send(event.submitter?.value ?? shown.actions?.[0]?.id ?? '');
    });
    if (state !== 'open') this.close(state, answer?.action_id);
    else this.watchTime();
  }

  button(action) {
    const style = (action.style ?? '').replace('ACTION_STYLE_', '').toLowerCase();
    const look = { class: `answer ${style}`, type: 'submit', value: action.id, data: { testid: `answer-${action.id}` } };
    // Giving up needs no field.
    return h('button', { ...look, formnovalidate: action.id === 'cancel' }, action.label || action.id);
  }

  input(field) {
    const type = field.type.replace(TYPE, '').toLowerCase();
    const id = `${this.name}-${field.id}`;
    const common = { id, required: field.required && type !== 'boolean', placeholder: field.placeholder, data: { testid: `field-${field.id}` } };
    const element = this.control(type, field, common);
    const label = h('label', { for: id }, field.label || field.id, field.required ? ' *' : '');
    const problem = h('span', { class: 'question-problem', id: `${id}-problem` });
    element.setAttribute('aria-describedby', problem.id);
    return { type, element, problem, row: h('div', { class: 'question-field' }, label, element, problem) };
  }

  control(type, field, common) {
    const given = field.default_value;
    if (type === 'select' || type === 'multiselect') {
      const chosen = [given ?? []].flat();
      const options = (field.options ?? []).map((one) => h('option', { value: one.value, selected: chosen.includes(one.value) }, one.label || one.value));
      if (type === 'select' && given === undefined) options.unshift(h('option', { value: '' }, ''));
      return h('select', { ...common, multiple: type === 'multiselect' }, options);
    }
    if (type === 'textarea') return h('textarea', { ...common, rows: 3 }, given ?? '');
    if (type === 'boolean') return h('input', { ...common, type: 'checkbox', checked: given === true });
    return h('input', { ...common, type: type === 'number' ? 'number' : 'text', step: 'any', value: given });
  }

  values() {
    const values = {};
    for (const { field, type, element } of this.fields) {
      if (type === 'boolean') values[field.id] = element.checked;
      else if (type === 'multiselect') values[field.id] = [...element.selectedOptions].map((one) => one.value);
      else if (element.value !== '') values[field.id] = type === 'number' ? Number(element.value) : element.value;
    }
    return values;
  }

  send(action) {
    for (const one of this.fields) one.problem.textContent = '';
    const values = action === 'cancel' ? {} : this.values();
    if (!this.submit({ key: this.key, run: this.run, id: this.id, action, values })) {
      this.words.textContent = say('answer_later');
      return;
    }
    this.set.disabled = true;
    this.words.textContent = say('sending');
    this.sent = action;
  }

  answered(frame) {
    if (frame.t === 'answered') {
      this.close('answered', this.sent);
      return;
    }
    // Another answer is another event.
    this.key = `answer-${crypto.randomUUID()}`;
    this.set.disabled = false;
    this.words.textContent = say('answer_refused', { message: frame.message });
  }

  close(state, action) {
    this.element.dataset.state = state;
    this.set.disabled = true;
    const chosen = (this.shown.actions ?? []).find((one) => one.id === action);
    const words = say(`question_${state}`);
    this.words.textContent = chosen ? `${words}: ${chosen.label || chosen.id}` : words;
  }

  watchTime() {
    const left = Date.parse(this.shown.expire_time) - Date.now();
    if (Number.isFinite(left)) setTimeout(() => this.element.dataset.state === 'open' && this.close('expired'), Math.max(0, Math.min(left, 2 ** 31 - 1)));
  }
}
