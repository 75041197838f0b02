// The choice of the theme. It is kept on this device.

import { Cell } from '../api/cell';

export type ThemeChoice = 'system' | 'light' | 'dark';

const STORED = 'bedside.theme';

function stored(): ThemeChoice {
  const choice = localStorage.getItem(STORED);
  return choice === 'light' || choice === 'dark' ? choice : 'system';
}

const current = new Cell<ThemeChoice>(stored());

export const theme = {
  get choice(): ThemeChoice {
    return current.value;
  },
  choose(choice: ThemeChoice): void {
    if (choice === 'system') localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, choice);
    current.value = choice;
    applyTheme();
  },
};

/** Applies the choice to the page. Without one, the theme is that of the system. */
export function applyTheme(): void {
  const choice = stored();
  if (choice === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = choice;
}
