'use strict';

/* What the page shows: `head` is read at once, an image's photo and masks when they are needed.

   A page by itself carries them in blocks of JSON. A page with a folder loads them as style sheets: those are the one
   kind of text that a page opened from disk may load, and they cannot run. */

const head = JSON.parse(document.getElementById('head').textContent);

const KEPT = 40; // decoded images
const kept = new Map();

/** The i-th image's {photo, prediction, truth, size}; photo is null where there is none. */
function imageAt(index) {
  const known = kept.get(index);
  if (known) {
    kept.delete(index);
    kept.set(index, known); // the latest is the last
    return known;
  }
  const image = loaded(index).catch((error) => {
    kept.delete(index);
    throw error;
  });
  kept.set(index, image);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return image;
}

async function loaded(index) {
  const [photo, packed] = head.folder ? [fileOf(index, 'jpg'), await packedIn(index)] : blockOf(index);
  const record = await inflated(packed);
  return {
    photo: head.images[index].problem ? null : photo,
    size: record.size,
    prediction: sideOf(record.prediction),
    truth: sideOf(record.truth),
  };
}

/** Where a card's photo comes from: in a folder there is a smaller one. */
function thumbnailOf(index) {
  if (head.images[index].problem) return null;
  return head.folder ? fileOf(index, 'small.jpg') : blockOf(index)[0];
}

function blockOf(index) {
  return JSON.parse(document.getElementById(`image-${index}`).textContent);
}

function fileOf(index, suffix) {
  return `${head.folder}/${String(index).padStart(5, '0')}.${suffix}`;
}

/** The style sheet of an image sets one property of an element of its own. */
function packedIn(index) {
  return new Promise((resolve, reject) => {
    const link = element('link', {rel: 'stylesheet', href: fileOf(index, 'css')});
    const probe = element('i', {id: `masks-${index}`, hidden: true});
    link.addEventListener('load', () => {
      const text = getComputedStyle(probe).getPropertyValue('--masks').trim().replaceAll('"', '');
      link.remove();
      probe.remove();
      text ? resolve(text) : reject(new Error(`${link.getAttribute('href')} holds no masks`));
    });
    link.addEventListener('error', () => {
      link.remove();
      probe.remove();
      reject(new Error(`${link.getAttribute('href')} cannot be read: keep the folder beside the page`));
    });
    document.body.append(probe);
    document.head.append(link);
  });
}

async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).json();
}

/* ------------------------------------------------------------------------------------------------------- elements */

/** An element; text and attributes are set as such, so nothing in them is ever markup. */
function element(name, properties = {}, ...children) {
  const made = name === 'svg' || SHAPES.has(name)
    ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'text') made.textContent = value;
    else if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const SHAPES = new Set(['path', 'line', 'circle', 'text', 'g', 'title']);

function byId(id) {
  return document.getElementById(id);
}

function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

function percent(share) {
  const value = 100 * share;
  return `${value >= 10 || value === 0 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(1) : '< 0.1'} %`;
}

function swatch(colour) {
  const made = element('span', {class: 'swatch'});
  made.style.backgroundColor = colour;
  return made;
}
