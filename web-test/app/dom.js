// A small virtual DOM: views describe what should be there, `render` changes only what differs,
// so that focus, scroll position and open disclosures survive live updates.

const SELF = Symbol('vnode');
const PROPERTIES = new Set(['disabled', 'hidden', 'checked', 'className']);

/** @returns a description of one element; falsy children are left out, `key` identifies it among its siblings */
export function h(tag, props, ...children) {
  const { key = null, ...rest } = props ?? {};
  return { tag, key, props: rest, children: flatten(children) };
}

function flatten(children) {
  return children.flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== '')
    .map((child) => (typeof child === 'object' ? child : String(child)));
}

export function render(root, ...vnodes) {
  reconcile(root, flatten(vnodes));
}

const matches = (node, vnode) => (typeof vnode === 'string'
  ? node.nodeType === Node.TEXT_NODE
  : node[SELF]?.tag === vnode.tag && node[SELF].key === vnode.key);

function reconcile(parent, vnodes) {
  const wanted = new Set(vnodes.filter((v) => v.key != null).map((v) => v.key));
  const keyed = new Map();
  for (const node of [...parent.childNodes]) {
    const key = node[SELF]?.key;
    if (key == null) continue;
    if (wanted.has(key)) keyed.set(key, node);
    else node.remove();
  }
  let cursor = parent.firstChild;
  for (const vnode of vnodes) {
    // An unkeyed element may have others before it that are no longer wanted.
    while (cursor && vnode.key == null && !matches(cursor, vnode) && cursor[SELF]?.key == null) {
      const next = cursor.nextSibling;
      cursor.remove();
      cursor = next;
    }
    const candidate = vnode.key != null ? keyed.get(vnode.key) : cursor;
    if (candidate && matches(candidate, vnode)) {
      if (candidate === cursor) cursor = cursor.nextSibling;
      else parent.insertBefore(candidate, cursor);
      update(candidate, vnode);
    } else {
      parent.insertBefore(create(vnode), cursor);
    }
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

function create(vnode) {
  if (typeof vnode === 'string') return document.createTextNode(vnode);
  const element = document.createElement(vnode.tag);
  element[SELF] = { tag: vnode.tag, key: vnode.key, props: {} };
  update(element, vnode);
  return element;
}

function update(node, vnode) {
  if (typeof vnode === 'string') {
    if (node.data !== vnode) node.data = vnode;
    return;
  }
  const before = node[SELF].props;
  for (const name of Object.keys(before)) {
    if (!(name in vnode.props)) assign(node, name, undefined);
  }
  for (const [name, value] of Object.entries(vnode.props)) {
    if (before[name] !== value) assign(node, name, value);
  }
  node[SELF] = { tag: vnode.tag, key: vnode.key, props: vnode.props };
  reconcile(node, vnode.children);
}

function assign(element, name, value) {
  if (name === 'class') element.className = value ?? '';
  else if (name.startsWith('on')) element[name] = value ?? null;
  else if (name === 'vars') {
    for (const [variable, v] of Object.entries(value ?? {})) element.style.setProperty(variable, v);
  } else if (name === 'value') {
    if (document.activeElement !== element) element.value = value ?? '';
  } else if (PROPERTIES.has(name)) element[name] = Boolean(value);
  else if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : value);
}

/** @returns a function that runs `draw` once, soon, however often it is called */
export function scheduler(draw) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      draw();
    }, 12);
  };
}

export const icon = (name) => h('span', { class: `icon i-${name}`, 'aria-hidden': 'true' });

export const byId = (id) => document.getElementById(id);

/** Tells screen readers about a change they would otherwise miss. */
export function announce(text) {
  byId('announcer').textContent = text;
}
