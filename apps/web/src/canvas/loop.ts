// One loop of animation frames for all traces of the page.
//
// The loop runs while there is something to draw. A trace that is outside of the visible part of the page is not drawn; its
// samples are kept by the trace, and it is complete when it becomes visible again. The browser stops the loop in a hidden tab.

/** Something that is drawn on a canvas of its own. */
export interface Drawable {
  readonly canvas: HTMLCanvasElement;
  /** Draws what has changed. Returns whether anything was drawn. */
  render(): boolean;
  /** The canvas has another size or another ratio of device pixels. */
  resize(): void;
  /** The theme has changed. */
  restyle?(): void;
}

const drawables = new Map<Element, Drawable>();
const hidden = new Set<Element>();
let frame = 0;

function run(): void {
  frame = drawables.size > 0 ? requestAnimationFrame(run) : 0;
  for (const [canvas, drawable] of drawables) {
    if (!hidden.has(canvas)) drawable.render();
  }
}

let sizes: ResizeObserver | undefined;
let visibility: IntersectionObserver | undefined;

function observe(): { sizes: ResizeObserver; visibility: IntersectionObserver } {
  sizes ??= new ResizeObserver((entries) => {
    for (const entry of entries) drawables.get(entry.target)?.resize();
  });
  visibility ??= new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) hidden.delete(entry.target);
      else hidden.add(entry.target);
    }
  });
  return { sizes, visibility };
}

const themeListeners = new Set<() => void>();
let watches = false;

/** Watches the theme, and whether the window moves to a screen with another ratio of pixels. */
function watch(): void {
  if (watches) return;
  watches = true;
  const restyle = (): void => {
    for (const drawable of drawables.values()) drawable.restyle?.();
    for (const listener of themeListeners) listener();
  };
  for (const query of ['(prefers-color-scheme: dark)', 'print']) matchMedia(query).addEventListener('change', restyle);
  new MutationObserver(restyle).observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  const watchPixels = (): void => {
    const resized = (): void => {
      for (const drawable of drawables.values()) drawable.resize();
      watchPixels();
    };
    matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener('change', resized, { once: true });
  };
  watchPixels();
}

/** Calls `listener` when the theme changes, until the returned function is called. */
export function onTheme(listener: () => void): () => void {
  watch();
  themeListeners.add(listener);
  return () => themeListeners.delete(listener);
}

/** Draws `drawable` with each frame of the screen until the returned function is called. */
export function draw(drawable: Drawable): () => void {
  const { sizes, visibility } = observe();
  watch();
  drawables.set(drawable.canvas, drawable);
  sizes.observe(drawable.canvas);
  visibility.observe(drawable.canvas);
  if (frame === 0) frame = requestAnimationFrame(run);
  return () => {
    sizes.unobserve(drawable.canvas);
    visibility.unobserve(drawable.canvas);
    drawables.delete(drawable.canvas);
    hidden.delete(drawable.canvas);
  };
}
