// Colours and sizes of the canvases. Colours come from the CSS variables of the theme, because a canvas does not resolve variables.

/** The colour of a CSS variable such as `--ecg` at an element. Another text is returned as it is. */
export function resolved(element: Element, color: string): string {
  const name = /^(?:var\()?\s*(--[\w-]+)\s*\)?$/.exec(color)?.[1];
  if (name === undefined) return color;
  return getComputedStyle(element).getPropertyValue(name).trim() || 'gray';
}

/** The size of texts and lengths relative to a screen of 1440 x 900: the root font grows with the screen. */
export function zoom(): number {
  const pixels = parseFloat(getComputedStyle(document.documentElement).fontSize);
  return pixels > 0 ? pixels / 16 : 1;
}
