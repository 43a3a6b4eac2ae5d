'use strict';

/* What is to be seen (`state`), which images that leaves, and a card for each. */

const state = {
  view: 'prediction', // or 'truth' or 'error'
  threshold: head.threshold,
  opacity: 0.55,
  search: '',
  label: -1, // a class; -1: all
  measure: 'name',
  reversed: false,
  low: null,
  high: null,
  shown: [], // images that pass the filters, in order
  open: -1, // the one in the viewer
};

/** Which segments of a side are visible -> a list of true and false. Without a score a segment always passes. */
function visibleOf(side, label = state.label) {
  return side.labels.map((own, index) => (label < 0 || own === label)
    && (!side.scores || side.scores[index] === null || side.scores[index] >= state.threshold));
}

/** What images are sorted by and filtered to a range of: name -> {title, of: index -> number, null: unknown}. */
const measures = {
  name: {title: 'name', of: (index) => index},
  ...(head.metric && {metric: {title: `${head.metric} (%)`, of: (index) => scaled(head.images[index].value)}}),
  ...(head.scored && {
    best: {title: 'best score', of: (index) => extreme(index, Math.max)},
    least: {title: 'lowest score', of: (index) => extreme(index, Math.min)},
  }),
  segments: {title: 'segments', of: (index) => visibleOf(sideShown(index)).filter(Boolean).length},
};

/** A metric of 0…1 as people write it: in percent. */
function scaled(value) {
  return value === null || value === undefined ? null : 100 * value;
}

function extreme(index, pick) {
  const side = sideShown(index), visible = visibleOf(side);
  const scores = (side.scores || []).filter((score, place) => visible[place] && score !== null);
  return scores.length ? scores.reduce((a, b) => pick(a, b)) : null;
}

/** Labels and scores of what an image's card shows; errors are of predictions. */
function sideShown(index) {
  return head.images[index][state.view === 'truth' ? 'truth' : 'prediction'] || {labels: [], scores: null};
}

function passes(index) {
  const image = head.images[index], side = sideShown(index);
  const words = state.search.toLowerCase();
  if (words && !image.name.toLowerCase().includes(words)) {
    const visible = visibleOf(side, -1);
    if (!side.labels.some((label, place) => visible[place] && head.classes[label].name.toLowerCase().includes(words))) {
      return false;
    }
  }
  if (state.label >= 0 && !visibleOf(side).some(Boolean)) return false;
  if (state.measure === 'name' || (state.low === null && state.high === null)) return true;
  const value = measures[state.measure].of(index);
  return value !== null && value >= (state.low ?? -Infinity) && value <= (state.high ?? Infinity);
}

/** Filter and sort anew; cards are made once, and moved only if another order or choice comes out. */
function arrange() {
  const {of} = measures[state.measure];
  const values = new Map(head.images.map((_, index) => [index, of(index)]));
  const sign = state.reversed ? -1 : 1;
  const before = state.shown;
  state.shown = [...values.keys()].filter(passes).sort((a, b) => {
    const [one, other] = [values.get(a), values.get(b)];
    if (one === null || other === null) return (one === null) - (other === null) || a - b; // unknown is last
    return sign * (one - other) || a - b;
  });
  if (state.shown.length !== before.length || state.shown.some((index, place) => index !== before[place])) {
    byId('gallery').replaceChildren(...state.shown.map(cardOf));
  }
  const all = head.images.length;
  byId('count').textContent = state.shown.length === all ? count(all, 'image')
    : state.shown.length ? `${state.shown.length.toLocaleString('en')} of ${count(all, 'image')}`
      : 'No image passes the filter.';
}

/* ---------------------------------------------------------------------------------------------------------- cards */

const cards = new Map();
const near = new Set(); // cards in or close to the window: only these have pictures

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const index = Number(entry.target.dataset.index);
    if (entry.isIntersecting) {
      near.add(index);
      drawCard(index);
    } else if (near.delete(index)) {
      emptyCard(index);
    }
  }
}, {rootMargin: '300px 0px'});

function cardOf(index) {
  if (cards.has(index)) return cards.get(index);
  const image = head.images[index];
  const photo = element('img', {alt: '', hidden: true, decoding: 'async'});
  const picture = element('div', {class: 'picture'}, photo, element('canvas'));
  picture.style.aspectRatio = `${image.width} / ${image.height}`;
  const button = element('button', {type: 'button', 'data-image': index, onclick: () => show(index)},
    picture, element('bdi', {class: 'file', text: image.name}), element('span', {class: 'facts'}));
  if (image.problem) button.append(element('span', {class: 'problem', text: image.problem}));
  const card = element('li', {'data-index': index}, button);
  cards.set(index, card);
  watcher.observe(card);
  tellFacts(card, index);
  return card;
}

/** The line below the picture, for the threshold as it is. */
function tellFacts(card, index) {
  const {value, problem: gone} = head.images[index], visible = visibleOf(sideShown(index)).filter(Boolean).length;
  const bounded = head.scored && state.threshold > 0 && state.view !== 'truth';
  const facts = gone ? [] : [`${count(visible, 'segment')}${bounded ? ` with score ≥ ${state.threshold.toFixed(2)}` : ''}`];
  const every = ['instance', 'detect'].includes(head.task) ? ' over all scores' : '';
  if (value !== null && value !== undefined) facts.unshift(`${head.metric} ${scaled(value).toFixed(1)} %${every}`);
  card.querySelector('.facts').textContent = facts.join(' · ');
}

const CARD = 320; // pixels of a card's masks on their long side

async function drawCard(index) {
  const card = cards.get(index), photo = card.querySelector('img'), canvas = card.querySelector('canvas');
  const thumbnail = thumbnailOf(index);
  tellFacts(card, index);
  if (thumbnail && photo.getAttribute('src') !== thumbnail) photo.setAttribute('src', thumbnail);
  photo.hidden = !thumbnail;
  photo.classList.toggle('grey', state.view === 'error');
  try {
    const image = await imageAt(index);
    if (!near.has(index)) return;
    const step = Math.max(1, Math.floor(Math.max(...image.size) / CARD));
    const layer = layerOf(image, state.view, step);
    drawFill(canvas, layer.ids, Math.ceil(image.size[1] / step), layer.colours);
  } catch (error) {
    tellOnce(card, error);
  }
}

function emptyCard(index) {
  const card = cards.get(index), canvas = card.querySelector('canvas');
  card.querySelector('img').removeAttribute('src');
  canvas.width = canvas.height = 0;
}

function redrawCards() {
  for (const index of near) drawCard(index);
}

function tellOnce(card, error) {
  if (!card.querySelector('.problem')) card.append(element('p', {class: 'problem', text: error.message}));
}

/** What is drawn of an image: {ids, colours, compared?}; in the error view ids are kinds of error. */
function layerOf(image, view, step = 1) {
  if (view !== 'error') {
    const side = image[view];
    if (!side) return {ids: paint({order: []}, image.size, [], step), colours: []};
    return {ids: paint(side, image.size, visibleOf(side), step), colours: side.colours};
  }
  const {truth, prediction} = image, things = head.classes.map((label) => label.thing);
  if (!truth || !prediction) return {ids: paint({order: []}, image.size, [], step), colours: []};
  const compared = compare(head.task, things, truth, prediction, image.size, visibleOf(prediction, -1), step);
  const ids = Int32Array.from(compared.kinds);
  if (state.label >= 0) {
    for (let at = 0; at < ids.length; at++) {
      const own = truth.labels[compared.trueIds[at] - 1], other = prediction.labels[compared.seenIds[at] - 1];
      if (own !== state.label && other !== state.label) ids[at] = 0;
    }
  }
  return {ids, colours: head.kinds.map((kind) => pixelOf(kind.colour, kind.opacity)), compared};
}
