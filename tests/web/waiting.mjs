// Tests that mostly wait: for alarms, ends of sessions, and the end of a minute.

import { after } from 'node:test';
import { closeBrowser } from './harness.mjs';
import './tests/alarms.mjs';
import './tests/emergency.mjs';
import './tests/sessions.mjs';
import './tests/updates.mjs';

after(closeBrowser);
