'use strict';

/* Below the images: tables that sort by a click on their heads, curves, pictures, and what the page is about. */

function section(id, title, ...content) {
  byId('places').append(element('a', {href: `#${id}`, text: title}));
  const made = element('section', {id}, element('h2', {text: title}), ...content);
  byId('sections').append(made);
  return made;
}

/** columns: [{name, numeric, percent}]; rows: lists of values, null where there is none. */
function table(columns, rows, caption) {
  const body = element('tbody'), heads = element('tr');
  let by = -1, down = false;
  const fill = () => {
    const order = rows.map((_, index) => index);
    if (by >= 0) {
      order.sort((a, b) => {
        const [one, other] = [rows[a][by], rows[b][by]];
        if (one === null || other === null) return (one === null) - (other === null) || a - b;
        const less = columns[by].numeric ? one - other : String(one).localeCompare(String(other));
        return (down ? -less : less) || a - b;
      });
    }
    body.replaceChildren(...order.map((index) => element('tr', {}, ...rows[index].map((value, place) => element(
      place ? 'td' : 'th', {...(place === 0 && {scope: 'row'}), class: columns[place].numeric ? 'number' : null},
      element('bdi', {text: shownValue(value, columns[place])}))))));
    for (const [place, cell] of [...heads.children].entries()) {
      cell.setAttribute('aria-sort', place === by ? (down ? 'descending' : 'ascending') : 'none');
    }
  };
  columns.forEach((column, place) => {
    heads.append(element('th', {scope: 'col', class: column.numeric ? 'number' : null}, element('button', {
      type: 'button',
      text: column.name,
      onclick: () => {
        [by, down] = by === place ? [by, !down] : [place, Boolean(column.numeric)];
        fill();
      },
    })));
  });
  fill();
  const made = element('table', {}, element('caption', {text: caption || '', class: caption ? null : 'unseen'}),
    element('thead', {}, heads), body);
  const frame = element('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption || 'table'}, made);
  return {frame, renew: (fresh) => {
    rows = fresh;
    fill();
  }};
}

function shownValue(value, column) {
  if (value === null || value === undefined) return '–';
  if (!column.numeric) return value;
  if (column.percent) return (100 * value).toFixed(1);
  if (Number.isInteger(value)) return value.toLocaleString('en');
  return Math.abs(value) >= 0.001 ? Number(value.toPrecision(4)).toString() : value.toExponential(2);
}

/** Classes as the images show them at the present threshold. */
function classRows() {
  const rows = head.classes.map((label) => [label.name, 0, 0, null, 0]);
  const sums = head.classes.map(() => [0, 0]);
  let pixels = 0;
  head.images.forEach((image, index) => {
    const side = sideShown(index), visible = visibleOf(side, -1), seen = new Set();
    pixels += image.width * image.height;
    side.labels.forEach((label, place) => {
      if (!visible[place]) return;
      seen.add(label);
      rows[label][2]++;
      rows[label][4] += side.areas[place];
      if (side.scores && side.scores[place] !== null) {
        sums[label][0] += side.scores[place];
        sums[label][1]++;
      }
    });
    for (const label of seen) rows[label][1]++;
  });
  rows.forEach((row, label) => {
    row[3] = sums[label][1] ? sums[label][0] / sums[label][1] : null;
    row[4] /= pixels;
  });
  return rows.filter((row) => row[2]).map((row) => (head.scored ? row : row.toSpliced(3, 1)));
}

/** Every segment that is shown, of all images that pass the filters, as rows of a CSV file. */
function csvText() {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ''));
  const rows = [['image', 'id', 'class', 'score', 'area']];
  for (const index of state.shown) {
    const side = sideShown(index), visible = visibleOf(side);
    side.labels.forEach((label, place) => {
      if (!visible[place]) return;
      const score = side.scores ? side.scores[place] : null;
      rows.push([head.images[index].name, place + 1, head.classes[label].name, score, side.areas[place]]);
    });
  }
  return rows.map((row) => row.map(quoted).join(',')).join('\n') + '\n';
}

function downloadCsv() {
  const address = URL.createObjectURL(new Blob([csvText()], {type: 'text/csv'}));
  const link = element('a', {href: address, download: 'segments.csv'});
  link.click();
  URL.revokeObjectURL(address);
}

/* --------------------------------------------------------------------------------------------------------- curves */

const CHART = {width: 460, height: 240, left: 46, right: 8, top: 8, bottom: 26};

/** curve: {title, series: [{name, steps, values, pale}]}; null values are gaps. */
function chart(curve) {
  const {width, height, left, right, top, bottom} = CHART;
  const strong = curve.series.filter((series) => !series.pale);
  const values = curve.series.flatMap((series) => series.values).filter((value) => value !== null);
  const last = Math.max(1, ...curve.series.flatMap((series) => series.steps));
  if (!values.length) return element('figure', {}, element('figcaption', {text: `${curve.title}: no finite value`}));
  const low = curve.zero ? 0 : Math.min(...values), high = Math.max(...values);
  const marks = ticks(low, high === low ? low + 1 : high, 5);
  const floor = Math.min(low, marks[0]), ceiling = Math.max(high, marks[marks.length - 1]);
  const x = (step) => left + step / last * (width - left - right);
  const y = (value) => height - bottom - (value - floor) / (ceiling - floor) * (height - top - bottom);
  const drawing = element('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': inWords(curve, strong)});
  for (const mark of marks) {
    drawing.append(element('line', {class: 'rule', x1: left, x2: width - right, y1: y(mark), y2: y(mark)}),
      element('text', {x: left - 6, y: y(mark) + 3.5, 'text-anchor': 'end', text: short(mark)}));
  }
  for (const mark of ticks(0, last, 5)) {
    if (mark > last) continue;
    drawing.append(element('text', {x: x(mark), y: height - 8, 'text-anchor': mark ? 'middle' : 'start', text: short(mark)}));
  }
  for (const series of curve.series) {
    drawing.append(element('path', {class: series.pale ? 'pale' : 'curve', d: pathOf(series, x, y)}));
    if (series.marks) {
      series.steps.forEach((step, at) => series.values[at] !== null && drawing.append(
        element('circle', {class: 'mark', cx: x(step), cy: y(series.values[at]), r: 2.5})));
    }
  }
  const cursor = element('line', {class: 'cursor', y1: top, y2: height - bottom, visibility: 'hidden'});
  const reading = element('output', {text: ending(strong)});
  drawing.append(cursor);
  drawing.addEventListener('pointermove', (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width * width - left) / (width - left - right) * last;
    const {steps, values: own} = strong[0];
    const place = steps.reduce((best, step, index) => (Math.abs(step - at) < Math.abs(steps[best] - at) ? index : best), 0);
    for (const end of ['x1', 'x2']) cursor.setAttribute(end, x(steps[place]));
    cursor.setAttribute('visibility', 'visible');
    reading.textContent = `step ${steps[place].toLocaleString('en')}: ${short(own[place])}`;
  });
  drawing.addEventListener('pointerleave', () => {
    cursor.setAttribute('visibility', 'hidden');
    reading.textContent = ending(strong);
  });
  return element('figure', {class: 'chart'}, element('figcaption', {}, element('span', {text: curve.title}), reading), drawing);
}

function pathOf(series, x, y) {
  let pen = 'M';
  return series.steps.map((step, at) => {
    if (series.values[at] === null) {
      pen = 'M';
      return '';
    }
    const part = `${pen}${x(step).toFixed(1)} ${y(series.values[at]).toFixed(1)}`;
    pen = 'L';
    return part;
  }).join('');
}

function ending(strong) {
  const {steps, values} = strong[0];
  return `step ${steps[steps.length - 1].toLocaleString('en')}: ${short(values[values.length - 1])}`;
}

function inWords(curve, strong) {
  const {steps, values} = strong[0];
  return `${curve.title}: ${short(values[0])} at step ${steps[0]}, ${ending(strong)}`;
}

/** Round numbers from at or below `low` to at or above `high`, about `wanted` of them. */
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const marks = [];
  for (let place = Math.floor(low / step); ; place++) {
    marks.push(place * step);
    if (place * step >= high) return marks;
  }
}

function short(value) {
  if (value === null || value === undefined) return 'not finite';
  if (value === 0) return '0';
  if (Math.abs(value) >= 1e4) return value.toLocaleString('en', {notation: 'compact'});
  return Math.abs(value) < 0.001 ? value.toExponential(1) : Number(value.toPrecision(4)).toString();
}

/* ------------------------------------------------------------------------------------------------------- sections */

let classTable = null;

function buildSections() {
  if (head.images.length) {
    const columns = [{name: 'class'}, {name: 'images', numeric: true}, {name: 'segments', numeric: true},
      ...(head.scored ? [{name: 'mean score', numeric: true}] : []), {name: 'share of pixels (%)', numeric: true, percent: true}];
    classTable = table(columns, classRows(), head.scored ? 'What is shown, at this score threshold' : 'What is shown');
  }
  if (head.curves.length) section('curves', 'Curves', element('div', {class: 'charts'}, ...head.curves.map(chart)));
  const tables = head.tables.map((made) => table(made.columns, made.rows, made.title).frame);
  if (classTable || tables.length) section('tables', 'Tables', ...tables, ...(classTable ? [classTable.frame, element('p', {},
    element('button', {type: 'button', id: 'csv', onclick: downloadCsv, text: 'Download what is shown as CSV'}))] : []));
  if (head.pictures.length) section('pictures', 'Pictures', element('div', {class: 'pictures'}, ...head.pictures.map(picture)));
  if (head.facts.length) {
    section('facts', 'About', element('dl', {}, ...head.facts.flatMap(([name, value]) => [
      element('dt', {text: name}), element('dd', {}, element('bdi', {text: value}))])));
  }
}

function picture({caption, suffix}, index) {
  const source = head.folder ? `${head.folder}/picture-${index}.${suffix}`
    : JSON.parse(byId(`picture-${index}`).textContent);
  return element('figure', {}, element('img', {src: source, alt: caption, loading: 'lazy'}),
    element('figcaption', {}, element('bdi', {text: caption})));
}
