// Creates a role and a user for each service, with the actions it needs and no others. Runs at every start: what exists is
// brought up to date, and passwords become those of the secrets. Waits until the database can be used.
//
// Without MONGODB_ADMIN_URI_FILE it logs in as `root` of MONGODB_HOSTS, whom mongo-bootstrap.js creates.

const fs = require('fs');

const SECRETS = process.env.SECRETS || '/secrets';
const PATIENCE_S = Number(process.env.MONGODB_SETUP_PATIENCE_S || 180);
const database = process.env.DATABASE || 'bedside';

// Codes of the server.
const UNAUTHORIZED = 13;
const AUTHENTICATION_FAILED = 18;

const read = (file) => fs.readFileSync(file, 'utf8').trim();
const password = (user) => read(`${SECRETS}/mongo/${user}-password`);

const ROLES = {
  // Reads for clients.
  query: ['find'],
  // The only writer. It defines no collections and no indexes; it looks how much space there is.
  ingest: ['find', 'insert', 'update', 'remove', 'dbStats'],
  // Defines collections and indexes. It reads and writes no document.
  setup: ['createCollection', 'createIndex', 'listCollections', 'listIndexes'],
  // For deploy/backup and deploy/restore: reads everything, and replaces collections.
  backup: [
    'find', 'insert', 'remove', 'listCollections', 'listIndexes', 'createCollection', 'createIndex', 'dropCollection',
    'renameCollectionSameDB',
  ],
};

function adminUri() {
  const file = process.env.MONGODB_ADMIN_URI_FILE;
  if (file) return read(file);
  const options = ['authSource=admin', 'serverSelectionTimeoutMS=2000', process.env.MONGODB_OPTIONS];
  return `mongodb://root:${password('root')}@${process.env.MONGODB_HOSTS}/admin?${options.filter(Boolean).join('&')}`;
}

// Which failures end the waiting: the first user may still be about to be created, but an administrator that was named is
// there or is not.
function isPermanent(error) {
  if (error.code === UNAUTHORIZED) return true;
  return error.code === AUTHENTICATION_FAILED && Boolean(process.env.MONGODB_ADMIN_URI_FILE);
}

function whatToDo(error) {
  if (error.code === AUTHENTICATION_FAILED) {
    return 'the user or the password is wrong. Do the secrets and the data belong to the same installation?';
  }
  if (error.code === UNAUTHORIZED) return 'this user may not administer users; it needs the role userAdmin';
  return 'is the database running, and can it be reached from here?';
}

function attempt(action) {
  for (let second = 0; ; second++) {
    try {
      // mongosh waits at each statement, but not at `return`: a failure would pass the `catch`.
      action();
      return;
    } catch (error) {
      if (isPermanent(error) || second >= PATIENCE_S) {
        print(`mongo-setup: ${error.message}: ${whatToDo(error)}`);
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
    const privileges = [{ resource: { db: database, collection: '' }, actions }];
    define(db, 'Role', `bedside-${name}`, { privileges, roles: [] });
    define(db, 'User', name, { pwd: password(name), roles: [{ role: `bedside-${name}`, db: database }] });
  }
  // Earlier versions had a user with rights on all databases.
  const admin = db.getSiblingDB('admin');
  if (!process.env.MONGODB_ADMIN_URI_FILE && admin.runCommand({ usersInfo: 'backup' }).users.length > 0) {
    admin.runCommand({ dropUser: 'backup' });
  }
});
print(`mongo-setup: roles and users of ${database} are up to date`);
