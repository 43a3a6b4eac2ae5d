'use strict';

/* Controls, keys and the address bar: whatever changes `state`, and what is drawn anew then. */

const VIEWS = {prediction: 'Prediction', truth: 'Truth', error: 'Error'};

function begin() {
  byId('title').textContent = head.title;
  const pictured = head.images.length > 0;
  byId('subtitle').textContent = [pictured && count(head.images.length, 'image'), head.task, head.subtitle]
    .filter(Boolean).join(' · ');
  if (pictured) byId('places').append(element('a', {href: '#images', text: 'Images'}));
  buildSections();
  if (byId('places').children.length < 2) byId('places').hidden = true;
  byId('images').hidden = byId('controls').hidden = !pictured;
  if (!pictured) return;
  if (!('DecompressionStream' in window)) {
    byId('count').textContent = 'This browser is too old to unpack the masks; please use one from 2023 or later.';
    return;
  }
  buildControls();
  window.addEventListener('hashchange', route);
  document.addEventListener('keydown', pressed);
  arrange();
  route();
}

/** "#12" is the 12th image, anything else the overview. */
function route() {
  const place = /^#(\d+)$/.exec(location.hash), index = place ? Number(place[1]) - 1 : -1;
  if (head.images[index]) {
    if (index !== state.open) open(index);
  } else if (state.open >= 0) {
    close();
  }
}

function leave() {
  if (state.open < 0) return;
  history.replaceState(null, '', '#images');
  close();
}

/* ------------------------------------------------------------------------------------------------------- controls */

function buildControls() {
  const views = head.truth ? Object.keys(VIEWS) : ['prediction'];
  for (const view of views) {
    byId('views').append(element('label', {}, element('input', {
      type: 'radio', name: 'view', value: view, checked: view === state.view, onchange: () => setView(view),
    }), element('span', {text: VIEWS[view]})));
  }
  byId('views').hidden = views.length < 2;
  byId('threshold-label').hidden = !head.scored;
  const counts = head.classes.map(() => 0);
  for (const image of head.images) {
    const all = [...(image.prediction?.labels || []), ...(image.truth?.labels || [])];
    for (const label of new Set(all)) counts[label]++;
  }
  byId('class').append(element('option', {value: -1, text: 'all'}), ...head.classes.map((label, index) => index)
    .filter((index) => counts[index])
    .map((index) => element('option', {value: index, text: `${head.classes[index].name} (${counts[index]})`})));
  byId('measure').append(...Object.entries(measures).map(([name, {title}]) => element('option', {value: name, text: title})));

  on('threshold', 'input', (value) => setThreshold(Number(value)));
  on('opacity', 'input', (value) => setOpacity(Number(value)));
  on('search', 'input', (value) => refilter({search: value.trim()}));
  on('class', 'change', (value) => refilter({label: Number(value)}));
  on('measure', 'change', (value) => refilter({measure: value, reversed: false, low: null, high: null}));
  on('low', 'input', (value) => refilter({low: value === '' ? null : Number(value)}));
  on('high', 'input', (value) => refilter({high: value === '' ? null : Number(value)}));
  byId('direction').addEventListener('click', () => refilter({reversed: !state.reversed}));
  byId('reset').addEventListener('click', () => refilter(
    {search: '', label: -1, measure: 'name', reversed: false, low: null, high: null}));
  byId('more').addEventListener('click', () => unfold(!byId('filters').classList.contains('open')));
  byId('controls').addEventListener('submit', (event) => event.preventDefault());
  byId('keys').addEventListener('click', () => byId('help').showModal());
  byId('back').addEventListener('click', leave);
  byId('previous').addEventListener('click', () => step(-1));
  byId('next').addEventListener('click', () => step(1));
  for (const kind of ['pointermove', 'pointerdown']) byId('frame').addEventListener(kind, point);
  byId('frame').addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && light(-1));
  setOpacity(state.opacity);
  byId('threshold').value = state.threshold;
  tell();
}

/** On a narrow screen the filters are behind a button. */
function unfold(open) {
  byId('filters').classList.toggle('open', open);
  byId('more').setAttribute('aria-expanded', open);
}

function on(id, event, act) {
  byId(id).addEventListener(event, () => act(byId(id).value));
}

/** Controls say what the state is, whoever changed it. */
function tell() {
  byId('threshold-text').textContent = state.threshold.toFixed(2);
  byId('opacity-text').textContent = percent(state.opacity);
  if (byId('search').value.trim() !== state.search) byId('search').value = state.search;
  byId('class').value = state.label;
  byId('measure').value = state.measure;
  byId('range').hidden = state.measure === 'name';
  for (const end of ['low', 'high']) if (state[end] === null) byId(end).value = '';
  byId('direction').textContent = state.reversed ? '↓' : '↑';
  byId('direction').setAttribute('aria-pressed', state.reversed);
  const filters = [state.search, state.label >= 0, state.low !== null || state.high !== null].filter(Boolean).length;
  byId('filter-mark').textContent = filters ? ` (${filters})` : '';
  for (const input of byId('views').querySelectorAll('input')) input.checked = input.value === state.view;
}

function refilter(change) {
  Object.assign(state, change);
  tell();
  arrange();
  redrawCards();
}

function setOpacity(value) {
  state.opacity = value;
  byId('opacity').value = value;
  document.documentElement.style.setProperty('--opacity', value);
  tell();
}

let waiting = 0;

/** A slider moves faster than masks are painted: once a frame is enough. */
function setThreshold(value) {
  state.threshold = Math.round(Math.min(Math.max(value, 0), 1) * 100) / 100;
  byId('threshold').value = state.threshold;
  tell();
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => {
    if (state.open >= 0) drawViewer();
    else {
      arrange();
      redrawCards();
    }
    classTable.renew(classRows());
  });
}

function setView(view) {
  if (!head.truth && view !== 'prediction') return;
  state.view = view;
  tell();
  if (state.open >= 0) drawViewer();
  else {
    arrange();
    redrawCards();
  }
  classTable.renew(classRows());
}

/* ----------------------------------------------------------------------------------------------------------- keys */

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  ArrowUp: () => stepSegment(-1),
  ArrowDown: () => stepSegment(1),
  Escape: leave,
};
const LETTERS = {
  p: () => setView('prediction'),
  t: () => setView('truth'),
  e: () => setView('error'),
  o: () => document.documentElement.classList.toggle('bare'),
  ',': () => setThreshold(state.threshold - 0.05),
  '.': () => setThreshold(state.threshold + 0.05),
  '/': () => {
    if (state.open >= 0) leave();
    unfold(true);
    byId('search').focus();
  },
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId('help').open) return;
  const typing = event.target.matches('input:not([type=radio]), select');
  if (event.key === 'Escape' && typing) event.target.blur();
  else if (typing || (event.target.matches('[type=radio]') && event.key.startsWith('Arrow'))) return;
  else if (state.open >= 0 && KEYS[event.key]) KEYS[event.key]();
  else if (state.open < 0 && event.key.startsWith('Arrow') && event.target.matches('[data-image]')) walk(event);
  else if (LETTERS[event.key.toLowerCase()]) LETTERS[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
}

/** Arrows in the gallery go from card to card, up and down by rows. */
function walk(event) {
  const buttons = [...byId('gallery').querySelectorAll('[data-image]')], at = buttons.indexOf(event.target);
  const top = buttons[0].parentElement.offsetTop;
  const second = buttons.findIndex((button) => button.parentElement.offsetTop !== top);
  const columns = second < 0 ? buttons.length : second;
  const by = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[event.key];
  buttons[at + by]?.focus();
}

begin();
