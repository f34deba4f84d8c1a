// What a screen reader or a tired eye would stumble over.

/** @returns what is wrong with the page as it stands */
export const problems = (page) => page.evaluate(check);

/** Runs in the page, so it uses nothing from outside. */
function check() {
  const problems = [];
  // Colours are judged as they end up, not half-way through a fade.
  for (const animation of document.getAnimations()) if (animation.effect.getComputedTiming().endTime !== Infinity) animation.finish();
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });
  const describe = (element) => `${element.tagName.toLowerCase()} ${element.dataset?.testid ?? element.id ?? ''} "${element.textContent.trim().slice(0, 30)}"`;
  const text = (element) => [...element.querySelectorAll('[aria-hidden="true"]')].reduce((all, hidden) => all.replace(hidden.textContent, ''), element.textContent).trim();
  const name = (element) => element.getAttribute('aria-label')
    || (element.getAttribute('aria-labelledby') ?? '').split(' ').map((ref) => document.getElementById(ref)?.textContent ?? '').join('')
    || [...(element.labels ?? [])].map((label) => label.textContent.trim()).join('')
    || (['INPUT', 'SELECT'].includes(element.tagName) ? '' : text(element));
  for (const element of document.querySelectorAll('button, input, select, textarea, summary, a[href], section, aside, nav, dialog, [role="progressbar"], [role="group"], [role="region"]')) {
    if (shown(element) && !name(element).trim()) problems.push(`no name: ${describe(element)}`);
  }
  for (const element of document.querySelectorAll('[onclick]')) problems.push(`inline handler: ${describe(element)}`);
  for (const image of document.querySelectorAll('img:not([alt])')) problems.push(`no alt: ${describe(image)}`);
  const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
  for (const repeated of new Set(ids.filter((one, i) => ids.indexOf(one) !== i))) problems.push(`id twice: ${repeated}`);
  for (const element of document.querySelectorAll('[aria-controls], [aria-describedby], label[for]')) {
    for (const ref of (element.getAttribute('aria-controls') ?? element.getAttribute('aria-describedby') ?? element.getAttribute('for')).split(' ')) {
      if (!document.getElementById(ref)) problems.push(`points nowhere: ${describe(element)} → ${ref}`);
    }
  }
  for (const [selector, wanted] of [['h1', 1], ['main', 1], ['nav[aria-label]', 1], ['[aria-live="polite"]', 1]]) {
    const count = document.querySelectorAll(selector).length;
    if (count !== wanted) problems.push(`${count} of ${selector}`);
  }
  if (!document.documentElement.lang) problems.push('no language');

  const parse = (value) => {
    const parts = value.match(/[\d.]+/g).map(Number);
    return value.startsWith('color(srgb') ? [parts[0] * 255, parts[1] * 255, parts[2] * 255, parts[3] ?? 1] : [parts[0], parts[1], parts[2], parts[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const background = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = parse(getComputedStyle(at).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || !shown(element) || element.closest(':disabled, .sr, option, noscript, .skip')) continue;
    const style = getComputedStyle(element);
    const below = background(element);
    const [a, b] = [luminance(over(parse(style.color), below)), luminance(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) problems.push(`contrast ${ratio.toFixed(2)}: ${describe(element)}`);
  }
  return problems;
}
