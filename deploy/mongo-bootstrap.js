// Creates the replica set, with this server as its only member, and the user `root`. Runs at every start of the server. Existing
// objects are not changed. An interrupted run is completed by the next one.

const fs = require('fs');

const ADDRESS = process.env.MONGODB_BOOTSTRAP_ADDRESS || '127.0.0.1:27017';
const SECRET = process.env.MONGODB_ROOT_PASSWORD_FILE || '/secrets/mongo/root-password';
const TIMEOUT_S = 120;

// Error codes of MongoDB.
const UNAUTHORIZED = 13;
const AUTHENTICATION_FAILED = 18;
const ALREADY_INITIALIZED = 23;
const USER_EXISTS = 51003;

const password = fs.readFileSync(SECRET, 'utf8').trim();
const options = 'directConnection=true&serverSelectionTimeoutMS=2000';

function repeatUntil(what, attempt) {
  for (let second = 0; second < TIMEOUT_S; second++) {
    const result = attempt();
    if (result) return result;
    sleep(1000);
  }
  print(`bootstrap: timeout after ${TIMEOUT_S} s while waiting until ${what}`);
  quit(1);
}

function anonymous() {
  try {
    // mongosh awaits statements but not `return`, so the error would not reach the `catch`.
    const db = connect(`mongodb://${ADDRESS}/admin?${options}`);
    return db;
  } catch (error) {
    return null;
  }
}

function canLogInAsRoot() {
  try {
    connect(`mongodb://root:${password}@${ADDRESS}/admin?${options}`);
    return true;
  } catch (error) {
    if (error.code === AUTHENTICATION_FAILED) return false;
    throw error;
  }
}

const admin = repeatUntil('the server answers', anonymous);

if (!admin.runCommand({ hello: 1 }).setName) {
  const member = process.env.MONGO_MEMBER;
  if (!member) {
    print('bootstrap: this server waits to be added to a replica set (MONGO_MEMBER is empty)');
    quit(0);
  }
  try {
    admin.runCommand({ replSetInitiate: { _id: 'rs0', members: [{ _id: 0, host: member }] } });
    print(`bootstrap: created replica set rs0 with ${member}`);
  } catch (error) {
    if (error.code !== ALREADY_INITIALIZED) throw error;
  }
}

// In a larger set, this member can be a secondary. The users then exist already.
const role = repeatUntil('the replica set has a primary', () => {
  const hello = admin.runCommand({ hello: 1 });
  if (hello.isWritablePrimary) return 'primary';
  return hello.secondary && hello.primary ? 'secondary' : null;
});

if (role === 'primary' && !canLogInAsRoot()) {
  try {
    admin.runCommand({ createUser: 'root', pwd: password, roles: [{ role: 'root', db: 'admin' }] });
    print('bootstrap: created user root');
  } catch (error) {
    if (error.code === UNAUTHORIZED) {
      print(`bootstrap: this database has users, but root does not have the password in ${SECRET}. The volume with the`
        + ' secrets and that with the data belong to different installations; see docs/OPERATIONS.md');
      quit(78);
    }
    if (error.code !== USER_EXISTS) throw error;
  }
}
print('bootstrap: the database is ready');
