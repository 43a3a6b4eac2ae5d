'use strict';

/* One image, large: segments light up under the pointer, in the list and by the keys. */

const shown = {image: null, layer: null, items: [], lit: -1, request: 0};

/** Show an image: through the address, so that the browser's own "back" closes it. */
function show(index) {
  const place = `#${index + 1}`;
  if (state.open < 0) location.hash = place;
  else history.replaceState(null, '', place); // stepping through images leaves one entry, not hundreds
  open(index);
}

async function open(index) {
  if (state.open < 0) state.scroll = window.scrollY;
  const request = ++shown.request, wasOpen = state.open >= 0, record = head.images[index];
  state.open = index;
  for (const id of ['top', 'filters', 'overview']) byId(id).hidden = true;
  byId('viewer').hidden = false;
  byId('name').textContent = record.name;
  byId('place').textContent = placeOf(index);
  if (!wasOpen) {
    window.scrollTo(0, 0);
    byId('name').focus({preventScroll: true});
  }
  byId('frame').style.setProperty('--ratio', record.width / record.height);
  byId('frame').style.aspectRatio = `${record.width} / ${record.height}`;
  problem(record.problem);
  try {
    const image = await imageAt(index);
    if (request !== shown.request) return;
    shown.image = image;
    byId('photo').hidden = !image.photo;
    if (image.photo) byId('photo').setAttribute('src', image.photo);
    byId('photo').alt = `photo ${record.name}`;
    drawViewer();
    for (const other of [1, -1]) if (neighbour(other) >= 0) imageAt(neighbour(other)).catch(() => {});
  } catch (error) {
    if (request === shown.request) problem(error.message);
  }
}

function close() {
  const index = state.open;
  state.open = -1;
  shown.request++;
  shown.image = null;
  byId('viewer').hidden = true;
  for (const id of ['top', 'filters', 'overview']) byId(id).hidden = false;
  arrange(); // the threshold may have moved
  redrawCards();
  window.scrollTo(0, state.scroll || 0);
  cards.get(index)?.querySelector('button').focus({preventScroll: true});
}

function placeOf(index) {
  const at = state.shown.indexOf(index);
  return at < 0 ? '' : `${(at + 1).toLocaleString('en')} / ${state.shown.length.toLocaleString('en')}`;
}

/** The image `by` places further among those that pass the filter; -1 at the end. */
function neighbour(by) {
  return state.shown[state.shown.indexOf(state.open) + by] ?? -1;
}

function step(by) {
  const index = neighbour(by);
  if (index >= 0) show(index);
}

function problem(text) {
  byId('problem').hidden = !text;
  byId('problem').textContent = text || '';
}

/* -------------------------------------------------------------------------------------------------------- drawing */

function drawViewer() {
  const {image} = shown;
  if (!image) return;
  const layer = layerOf(image, state.view), columns = image.size[1];
  shown.layer = layer;
  drawFill(byId('fill'), layer.ids, columns, layer.colours);
  drawLines(byId('line'), layer.ids, columns, layer.colours);
  byId('photo').classList.toggle('grey', state.view === 'error');
  shown.items = state.view === 'error' ? kindItems(image, layer) : segmentItems(image);
  about(image);
  light(-1);
  byId('list').replaceChildren(...shown.items.map(rowOf));
  byId('previous').disabled = neighbour(-1) < 0;
  byId('next').disabled = neighbour(1) < 0;
}

function segmentItems(image) {
  const side = image[state.view];
  if (!side) return [];
  const visible = visibleOf(side), pixels = originalPixels();
  return side.labels.map((label, index) => ({
    id: index + 1,
    name: head.classes[label].name,
    colour: side.colours[index],
    score: side.scores ? side.scores[index] : null,
    area: side.areas[index],
    share: side.areas[index] / pixels,
  })).filter((item) => visible[item.id - 1]);
}

function kindItems(image, layer) {
  const counts = head.kinds.map(() => 0);
  for (const kind of layer.ids) if (kind) counts[kind - 1]++;
  return head.kinds.map((kind, index) => ({
    id: index + 1,
    name: kind.name,
    colour: pixelOf(kind.colour, 1),
    score: null,
    area: Math.round(counts[index] / layer.ids.length * originalPixels()),
    share: counts[index] / layer.ids.length,
  })).filter((item) => counts[item.id - 1]);
}

function originalPixels() {
  const {width, height} = head.images[state.open];
  return width * height;
}

function about(image) {
  const {width, height, value} = head.images[state.open];
  const facts = [`${width}×${height}`];
  if (value !== null && value !== undefined) facts.push(`${head.metric} ${scaled(value).toFixed(1)} %`);
  if (state.view === 'error') facts.push(image.truth && image.prediction ? '% of the picture' : 'no truth here');
  else if (!image[state.view]) facts.push(`no ${state.view} here`);
  else {
    const all = image[state.view].labels.length;
    facts.push(shown.items.length === all ? count(all, 'segment') : `${shown.items.length} of ${count(all, 'segment')}`);
  }
  byId('about').textContent = facts.join(' · ');
}

function rowOf(item, place) {
  const colour = `#${[item.colour, item.colour >>> 8, item.colour >>> 16]
    .map((channel) => (channel & 255).toString(16).padStart(2, '0')).join('')}`;
  return element('li', {}, element('button', {
    type: 'button',
    onpointerenter: () => light(place),
    onpointerleave: () => light(-1),
    onfocus: () => light(place),
    onclick: () => light(place),
  }, swatch(colour), element('bdi', {class: 'label', text: item.name}),
  element('span', {class: 'score', text: item.score === null ? '' : item.score.toFixed(2)}),
  element('span', {class: 'area', text: percent(item.share), title: `${item.area.toLocaleString('en')} pixels`}),
  element('span', {class: 'pixels', text: `${item.area.toLocaleString('en')} px`})));
}

/* ---------------------------------------------------------------------------------------------------- lighting up */

/** Light up the item at a place in the list, -1: none. only: of a kind of error, just the pixels that pass. */
function light(place, only = null) {
  shown.lit = place;
  const {image, layer} = shown, canvas = byId('lit'), item = shown.items[place];
  for (const [at, row] of [...byId('list').children].entries()) row.classList.toggle('lit', at === place);
  if (!item || !image) {
    canvas.width = canvas.height = 0;
    byId('tip').hidden = true;
    return;
  }
  const mask = new Uint8Array(image.size[0] * image.size[1]);
  if (state.view === 'error') {
    for (let at = 0; at < mask.length; at++) mask[at] = layer.ids[at] === item.id && (!only || only(at)) ? 1 : 0;
  } else {
    fillRuns(mask, image[state.view].runs[item.id - 1], image.size[0], image.size[1], 1, 1);
  }
  drawLit(canvas, mask, image.size[1]);
}

function describe(item) {
  return [item.name, item.score === null ? null : `score ${item.score.toFixed(2)}`,
    `${item.area.toLocaleString('en')} px`, percent(item.share)].filter(Boolean).join(' · ');
}

/** The pointer at a place of the frame: light up what is there and name it beside the pointer. */
function point(event) {
  const {image, layer} = shown;
  if (!image || !layer) return;
  const box = byId('frame').getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * image.size[1]);
  const y = Math.floor((event.clientY - box.top) / box.height * image.size[0]);
  const inside = x >= 0 && y >= 0 && x < image.size[1] && y < image.size[0];
  const at = y * image.size[1] + x, id = inside ? layer.ids[at] : 0;
  const place = shown.items.findIndex((item) => item.id === id);
  if (place < 0) {
    light(-1);
    return;
  }
  const tip = byId('tip');
  const pair = layer.compared && pairAt(at);
  const same = pair ? `${id} ${pair.key}` : String(id);
  if (place !== shown.lit || tip.hidden || tip.dataset.same !== same) {
    light(place, pair && pair.test);
    tip.dataset.same = same;
    tip.replaceChildren(...(pair ? pair.lines : linesOf(shown.items[place])));
    tip.hidden = false;
  }
  tip.style.left = `${Math.min(Math.max(event.clientX - box.left, tip.offsetWidth / 2), box.width - tip.offsetWidth / 2)}px`;
  tip.style.top = `${event.clientY - box.top}px`;
  tip.classList.toggle('below', event.clientY - box.top < tip.offsetHeight + 24);
}

function linesOf(item) {
  const rest = describe({...item, name: null});
  return [element('bdi', {class: 'label', text: item.name}), element('span', {text: rest})];
}

/** At a pixel of the error view: which truth and which prediction meet there. */
function pairAt(at) {
  const {kinds, trueIds, seenIds} = shown.layer.compared, {truth, prediction} = shown.image;
  const [kind, own, other] = [kinds[at], trueIds[at], seenIds[at]];
  const nameOf = (side, id) => (id ? head.classes[side.labels[id - 1]].name : 'nothing');
  const score = other && prediction.scores ? prediction.scores[other - 1] : null;
  return {
    key: `${own} ${other}`,
    test: (place) => kinds[place] === kind && trueIds[place] === own && seenIds[place] === other,
    lines: [
      element('span', {class: 'label', text: head.kinds[kind - 1].name}),
      element('bdi', {text: `truth: ${nameOf(truth, own)}`}),
      element('bdi', {text: `prediction: ${nameOf(prediction, other)}${score === null ? '' : ` ${score.toFixed(2)}`}`}),
    ],
  };
}

/** By the keys: the next or previous of the list, spoken as well. */
function stepSegment(by) {
  const {items} = shown;
  if (!items.length) return;
  const place = shown.lit < 0 ? (by > 0 ? 0 : items.length - 1) : (shown.lit + by + items.length) % items.length;
  const button = byId('list').children[place].firstChild;
  button.focus({preventScroll: true});
  button.scrollIntoView({block: 'nearest'});
  light(place);
  byId('said').textContent = describe(items[place]);
}
