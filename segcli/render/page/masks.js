'use strict';

/* Masks: run lengths to pixels, pixels to colours, truth against prediction.

   A side is what was predicted of an image, or what is true: labels, scores (null: none), areas in pixels of the
   original, colours, and runs: per segment the column-major [start, stop, start, stop, …] of its mask on a grid
   size = [height, width]. An id map holds i + 1 for segment i, 0 for nothing, row by row. */

/** COCO's compressed run lengths -> [start, stop, …] of the mask's pixels. */
function runsOf(text) {
  const runs = [];
  let place = 0, at = 0, number = 0, before = 0, last = 0; // before: the count two before this one
  while (at < text.length) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16 && shift < 32) value |= -1 << shift;
    if (number > 2) value += before;
    before = last;
    last = value;
    if (number++ % 2 && value) runs.push(place, place + value);
    place += value;
  }
  return Int32Array.from(runs);
}

function sideOf(record) {
  if (!record) return null;
  const order = record.areas.map((_, index) => index).sort((a, b) => record.areas[b] - record.areas[a]);
  return {...record, colours: record.colours.map((colour, index) => pixelOf(colour, head.classes[record.labels[index]].background ? 0 : 1)), runs: record.masks.map(runsOf), order};
}

/** "#rrggbb" and an opacity of 0…1 -> what an ImageData holds of it, read as a 32-bit number. */
function pixelOf(colour, opacity) {
  const rgb = parseInt(colour.slice(1), 16);
  return (Math.round(255 * opacity) << 24 | (rgb & 0xff) << 16 | rgb & 0xff00 | rgb >> 16) >>> 0;
}

function fillRuns(ids, runs, height, columns, step, value) {
  for (let run = 0; run < runs.length; run += 2) {
    const stop = runs[run + 1];
    let x = Math.floor(runs[run] / height);
    for (let foot = x * height; foot < stop; foot += height, x++) {
      if (x % step) continue;
      const from = Math.ceil(Math.max(runs[run] - foot, 0) / step), to = Math.min(stop - foot, height);
      for (let y = from, at = from * columns + x / step; y * step < to; y++, at += columns) ids[at] = value;
    }
  }
}

/** The id map of the visible segments, every step-th pixel each way. Smaller segments lie on top, so none is buried. */
function paint(side, size, visible, step = 1) {
  const columns = Math.ceil(size[1] / step);
  const ids = new Int32Array(Math.ceil(size[0] / step) * columns);
  for (const index of side.order) {
    if (visible[index]) fillRuns(ids, side.runs[index], size[0], columns, step, index + 1);
  }
  return ids;
}

/** Every id in its colour; colours[i] is that of id i + 1. */
function drawFill(canvas, ids, columns, colours) {
  const picture = sized(canvas, ids.length / columns, columns);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let at = 0; at < ids.length; at++) if (ids[at]) pixels[at] = colours[ids[at] - 1];
  canvas.getContext('2d').putImageData(picture, 0, 0);
}

/** A line inside every segment's border, lighter than its tint; the frame of the picture gets none. */
function drawLines(canvas, ids, columns, colours) {
  const rows = ids.length / columns;
  const picture = sized(canvas, rows, columns);
  const pixels = new Uint32Array(picture.data.buffer);
  const light = colours.map(lighter);
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, at++) {
      const id = ids[at];
      if (id && colours[id - 1] >>> 24 && ((x && ids[at - 1] !== id) || (x < columns - 1 && ids[at + 1] !== id)
        || (y && ids[at - columns] !== id) || (y < rows - 1 && ids[at + columns] !== id))) pixels[at] = light[id - 1];
    }
  }
  canvas.getContext('2d').putImageData(picture, 0, 0);
}

function lighter(pixel) {
  const channel = (shift) => Math.round((pixel >>> shift & 255) * 0.6 + 255 * 0.4) << shift;
  return (0xff000000 | channel(16) | channel(8) | channel(0)) >>> 0;
}

const SHADE = 0x73000000, GLOW = 0xffffffff;

/** Shade everything but what mask (1 = lit) holds, and draw a white line around that. */
function drawLit(canvas, mask, columns) {
  const rows = mask.length / columns;
  const picture = sized(canvas, rows, columns);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, at++) {
      if (mask[at]) continue;
      const beside = (x && mask[at - 1]) || (x < columns - 1 && mask[at + 1])
        || (y && mask[at - columns]) || (y < rows - 1 && mask[at + columns]);
      pixels[at] = beside ? GLOW : SHADE;
    }
  }
  canvas.getContext('2d').putImageData(picture, 0, 0);
}

function sized(canvas, rows, columns) {
  canvas.width = columns;
  canvas.height = rows;
  return new ImageData(columns, rows);
}

/* ------------------------------------------------------------------------------------------- truth and prediction */

const OBJECTS = new Set(['instance', 'detect']); // tasks whose segments may overlap
const RIGHT = 1, WRONG_CLASS = 2, WRONG_OBJECT = 3, MISSED = 4, INVENTED = 5, VOID = 6;

/** The kind of every pixel, as segcli/render/error_map.py has it: -> {kinds: Uint8Array, trueIds, seenIds}.

    things[label]: whether a class is countable. shown: which predictions count. */
function compare(task, things, truth, seen, size, shown, step = 1) {
  const trueIds = paint(truth, size, truth.labels.map(() => true), step), seenIds = paint(seen, size, shown, step);
  const width = seen.labels.length + 1;
  const kinds = new Uint8Array(trueIds.length);
  if (!OBJECTS.has(task)) {
    const judged = judge(task, things, truth, seen, matchedOnMaps(truth, seen));
    for (let at = 0; at < kinds.length; at++) kinds[at] = judged[trueIds[at] * width + seenIds[at]];
    return {kinds, trueIds, seenIds};
  }
  const judged = judge(task, things, truth, seen, new Set());
  const partner = matchedInstances(truth, seen, shown);
  const found = new Uint8Array(kinds.length), explained = new Uint8Array(kinds.length);
  const columns = Math.ceil(size[1] / step), own = new Uint8Array(kinds.length), its = new Uint8Array(kinds.length);
  for (const [one, other] of partner) {
    own.fill(0);
    its.fill(0);
    fillRuns(own, truth.runs[one], size[0], columns, step, 1);
    fillRuns(its, seen.runs[other], size[0], columns, step, 1);
    for (let at = 0; at < kinds.length; at++) {
      if (!own[at] || !its[at]) continue;
      if (trueIds[at] === one + 1) found[at] = 1;
      if (seenIds[at] === other + 1) explained[at] = 1;
    }
  }
  for (let at = 0; at < kinds.length; at++) {
    let kind = judged[trueIds[at] * width + seenIds[at]];
    if (found[at] && seenIds[at]) kind = INVENTED;
    if (explained[at] && trueIds[at]) kind = MISSED;
    if (found[at] && explained[at]) kind = RIGHT;
    kinds[at] = kind;
  }
  return {kinds, trueIds, seenIds};
}

/** The kind of each pair of ids, true id · (M + 1) + predicted id; id 0 is none. matched: set of such pairs. */
function judge(task, things, truth, seen, matched) {
  const width = seen.labels.length + 1;
  const judged = new Uint8Array((truth.labels.length + 1) * width);
  judged.fill(OBJECTS.has(task) ? INVENTED : VOID, 1, width);
  if (!OBJECTS.has(task)) judged[0] = VOID;
  truth.labels.forEach((one, row) => {
    judged[(row + 1) * width] = MISSED;
    seen.labels.forEach((other, column) => {
      const pair = (row + 1) * width + column + 1;
      let kind = WRONG_CLASS;
      if (task === 'panoptic' && things[one] && !things[other]) kind = MISSED;
      if (task === 'panoptic' && !things[one] && things[other]) kind = INVENTED;
      if (one === other) kind = things[one] && task !== 'semantic' ? WRONG_OBJECT : RIGHT;
      judged[pair] = matched.has(pair) ? RIGHT : kind;
    });
  });
  return judged;
}

/** Pairs of ids of one class whose IoU outside void is above 0.5; whatever else is shown, as maps do not overlap. */
function matchedOnMaps(truth, seen) {
  const width = seen.labels.length + 1, matched = new Set(), trueAreas = truth.runs.map(areaOf);
  seen.labels.forEach((label, column) => {
    const both = truth.runs.map((runs) => commonArea(runs, seen.runs[column]));
    const known = both.reduce((sum, pixels) => sum + pixels, 0);
    truth.labels.forEach((own, row) => {
      const union = trueAreas[row] + known - both[row];
      if (own === label && 2 * both[row] > union) matched.add((row + 1) * width + column + 1);
    });
  });
  return matched;
}

/** [truth, prediction] pairs of one class with an IoU above 0.5, each side once; the surest choose first. */
function matchedInstances(truth, seen, shown) {
  const trueAreas = truth.runs.map(areaOf), seenAreas = seen.runs.map(areaOf);
  const free = truth.labels.map(() => true), pairs = [];
  seen.labels.forEach((label, other) => {
    if (!shown[other]) return;
    let best = 0.5, choice = -1;
    truth.labels.forEach((own, one) => {
      const small = Math.min(trueAreas[one], seenAreas[other]), large = Math.max(trueAreas[one], seenAreas[other]);
      if (!free[one] || own !== label || 2 * small <= large) return;
      const both = commonArea(truth.runs[one], seen.runs[other]);
      const iou = both / (small + large - both);
      if (iou > best) [best, choice] = [iou, one];
    });
    if (choice < 0) return;
    free[choice] = false;
    pairs.push([choice, other]);
  });
  return pairs;
}

function areaOf(runs) {
  let area = 0;
  for (let run = 0; run < runs.length; run += 2) area += runs[run + 1] - runs[run];
  return area;
}

function commonArea(a, b) {
  let area = 0, i = 0, j = 0;
  if (a[a.length - 1] <= b[0] || b[b.length - 1] <= a[0]) return 0;
  while (i < a.length && j < b.length) {
    area += Math.max(0, Math.min(a[i + 1], b[j + 1]) - Math.max(a[i], b[j]));
    if (a[i + 1] < b[j + 1]) i += 2; else j += 2;
  }
  return area;
}
