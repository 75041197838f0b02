// Creates a role and a user for each service, with only the actions that it needs. Runs at every start: existing roles and users
// are updated, and passwords are set from the secrets. Waits until the database is available.
//
// Without MONGODB_ADMIN_URI_FILE, it logs in at MONGODB_HOSTS as `root`, which mongo-bootstrap.js creates.

const fs = require('fs');

const SECRETS = process.env.SECRETS || '/secrets';
const TIMEOUT_S = Number(process.env.MONGODB_SETUP_PATIENCE_S || 180);
const database = process.env.DATABASE || 'bedside';

// Error codes of MongoDB.
const UNAUTHORIZED = 13;
const AUTHENTICATION_FAILED = 18;

const read = (file) => fs.readFileSync(file, 'utf8').trim();
const password = (user) => read(`${SECRETS}/mongo-setup/${user}-password`);

const ROLES = {
  // Reads for clients; see COLLECTIONS.
  query: ['find'],
  // The only writer. It reads the free space. It creates no collections and no indexes.
  ingest: ['find', 'insert', 'update', 'remove', 'dbStats'],
  // Stores alarms and limits, and reads the latest strips of patients.
  alarms: ['find', 'insert', 'update'],
  // Creates collections and indexes. It has no access to documents.
  setup: ['createCollection', 'createIndex'],
  // For deploy/backup and deploy/restore: reads everything and replaces collections.
  backup: [
    'find', 'insert', 'remove', 'listCollections', 'listIndexes', 'createCollection', 'createIndex', 'dropCollection',
    'renameCollectionSameDB',
  ],
};

// The collections of roles that do not need all of them. Query has no access to users, sessions and failed logins.
const COLLECTIONS = {
  query: [
    'admissions', 'audit', 'audit_heads', 'blobs.chunks', 'blobs.files', 'clock', 'corrections', 'ecgs', 'fates', 'former_names',
    'heart_rates', 'images', 'patients', 'schema', 'uploads', 'wards', 'waveform_pieces', 'waveform_streams', 'waveforms',
  ],
};

function adminUri() {
  const file = process.env.MONGODB_ADMIN_URI_FILE;
  if (file) return read(file);
  const options = ['authSource=admin', 'serverSelectionTimeoutMS=2000', process.env.MONGODB_OPTIONS];
  return `mongodb://root:${password('root')}@${process.env.MONGODB_HOSTS}/admin?${options.filter(Boolean).join('&')}`;
}

// Errors that end the wait. The first user may not exist yet, but a configured administrator must.
function isPermanent(error) {
  if (error.code === UNAUTHORIZED) return true;
  return error.code === AUTHENTICATION_FAILED && Boolean(process.env.MONGODB_ADMIN_URI_FILE);
}

function advice(error) {
  if (error.code === AUTHENTICATION_FAILED) {
    return 'the user or the password is wrong. Do the secrets and the data belong to the same installation?';
  }
  if (error.code === UNAUTHORIZED) return 'this user may not administer users; it needs the role userAdmin';
  return 'is the database running and reachable?';
}

function attempt(action) {
  for (let second = 0; ; second++) {
    try {
      // mongosh awaits statements but not `return`, so the error would not reach the `catch`.
      action();
      return;
    } catch (error) {
      if (isPermanent(error) || second >= TIMEOUT_S) {
        print(`mongo-setup: ${error.message}: ${advice(error)}`);
        quit(1);
      }
      if (second % 10 === 5) print(`mongo-setup: waiting for the database (${error.message})`);
      sleep(1000);
    }
  }
}

function define(db, kind, name, fields) {
  const info = db.runCommand({ [kind === 'Role' ? 'rolesInfo' : 'usersInfo']: name });
  const exists = (kind === 'Role' ? info.roles : info.users).length > 0;
  db.runCommand({ [`${exists ? 'update' : 'create'}${kind}`]: name, ...fields });
}

attempt(() => {
  const db = connect(adminUri()).getSiblingDB(database);
  for (const [name, actions] of Object.entries(ROLES)) {
    const collections = COLLECTIONS[name] || [''];
    const privileges = collections.map((collection) => ({ resource: { db: database, collection }, actions }));
    define(db, 'Role', `bedside-${name}`, { privileges, roles: [] });
    define(db, 'User', name, { pwd: password(name), roles: [{ role: `bedside-${name}`, db: database }] });
  }
  // Earlier versions created a user with rights on all databases.
  const admin = db.getSiblingDB('admin');
  if (!process.env.MONGODB_ADMIN_URI_FILE && admin.runCommand({ usersInfo: 'backup' }).users.length > 0) {
    admin.runCommand({ dropUser: 'backup' });
  }
});
print(`mongo-setup: roles and users of ${database} are up to date`);
