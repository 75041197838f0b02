// The grid of tiles: the number of columns with the largest digits.

export interface Grid {
  columns: number;
  /** Height of a tile in CSS pixels. */
  tileHeight: number;
}

/** The smallest readable tile, in rem. */
const MIN_WIDTH = 9.5;
const MIN_HEIGHT = 5.5;
/** Height of the tiles if not all of them fit, in rem. */
const SCROLLED_HEIGHT = 6.5;
/** Below this width of the page, in rem, there is one column: a phone. */
const PHONE_WIDTH = 34;
/** Space between tiles, in rem. The same as in the style of the page. */
export const GAP = 0.375;

/** Font size of the digits in a tile of this size. The style of a tile has the same rule. */
function digits(width: number, height: number): number {
  return Math.min(height * 0.4, width * 0.175);
}

/** The grid for `count` tiles in an area in CSS pixels. If even the smallest tiles do not fit, it is higher than the area. */
export function gridOf(count: number, width: number, height: number, rem: number): Grid {
  const tiles = Math.max(count, 1);
  const gap = GAP * rem;
  const maxColumns = width < PHONE_WIDTH * rem ? 1 : Math.max(1, Math.floor((width + gap) / (MIN_WIDTH * rem + gap)));
  const grid = (columns: number): Grid & { width: number } => {
    const rows = Math.ceil(tiles / columns);
    return {
      columns,
      width: (width - gap * (columns - 1)) / columns,
      tileHeight: Math.floor((height - gap * (rows - 1)) / rows),
    };
  };
  let best: (Grid & { width: number }) | undefined;
  for (let columns = 1; columns <= Math.min(maxColumns, tiles); columns += 1) {
    const candidate = grid(columns);
    if (candidate.tileHeight < MIN_HEIGHT * rem) continue;
    if (!best || digits(candidate.width, candidate.tileHeight) > digits(best.width, best.tileHeight)) best = candidate;
  }
  // A single patient does not need a tile of the whole screen.
  if (best) return { columns: best.columns, tileHeight: Math.min(best.tileHeight, 30 * rem) };
  return { columns: maxColumns, tileHeight: SCROLLED_HEIGHT * rem };
}
