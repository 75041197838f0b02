import { expect, it } from 'vitest';
import { oneLine } from '../src/ui/text';

it('makes one line of a text with line breaks, tabs and spaces', () => {
  expect(oneLine('  Resuscitation\r\nin\tSouth,\n\n bed 1 ')).toBe('Resuscitation in South, bed 1');
  expect(oneLine(' \n ')).toBe('');
});
