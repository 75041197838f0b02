// All tests in one process: they share the browser.

import { after } from 'node:test';
import { closeBrowser } from './harness.mjs';
import './tests/admin.mjs';
import './tests/alarms.mjs';
import './tests/care.mjs';
import './tests/pages.mjs';
import './tests/patient.mjs';
import './tests/sessions.mjs';
import './tests/updates.mjs';
import './tests/upload.mjs';

after(closeBrowser);
