// Tests in one process share the browser. `waiting.mjs` has the other ones, and runs at the same time.

import { after } from 'node:test';
import { closeBrowser } from './harness.mjs';
import './tests/admin.mjs';
import './tests/care.mjs';
import './tests/demo.mjs';
import './tests/oidc.mjs';
import './tests/pages.mjs';
import './tests/patient.mjs';
import './tests/services.mjs';
import './tests/upload.mjs';

after(closeBrowser);
