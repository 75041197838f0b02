// Creates the replica set, with this server as its only member, and the user `root`. Runs at every start of the server: what
// exists is left as it is, and a run that was interrupted is completed by the next one.

const fs = require('fs');

const ADDRESS = process.env.MONGODB_BOOTSTRAP_ADDRESS || '127.0.0.1:27017';
const SECRET = process.env.MONGODB_ROOT_PASSWORD_FILE || '/secrets/mongo/root-password';
const PATIENCE_S = 120;

// Codes of the server.
const UNAUTHORIZED = 13;
const AUTHENTICATION_FAILED = 18;
const ALREADY_INITIALIZED = 23;
const USER_EXISTS = 51003;

const password = fs.readFileSync(SECRET, 'utf8').trim();
const options = 'directConnection=true&serverSelectionTimeoutMS=2000';

function repeatUntil(what, attempt) {
  for (let second = 0; second < PATIENCE_S; second++) {
    const result = attempt();
    if (result) return result;
    sleep(1000);
  }
  print(`bootstrap: after ${PATIENCE_S} s still waiting until ${what}`);
  quit(1);
}

function anonymous() {
  try {
    // mongosh waits at each statement, but not at `return`: a failure would pass the `catch`.
    const db = connect(`mongodb://${ADDRESS}/admin?${options}`);
    return db;
  } catch (error) {
    return null;
  }
}

function rootCanLogIn() {
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
    print(`bootstrap: replica set rs0 of ${member} is created`);
  } catch (error) {
    if (error.code !== ALREADY_INITIALIZED) throw error;
  }
}

// A member of a larger set need not be the primary: the users of the set are there already then.
const role = repeatUntil('the replica set has a primary', () => {
  const hello = admin.runCommand({ hello: 1 });
  if (hello.isWritablePrimary) return 'primary';
  return hello.secondary && hello.primary ? 'secondary' : null;
});

if (role === 'primary' && !rootCanLogIn()) {
  try {
    admin.runCommand({ createUser: 'root', pwd: password, roles: [{ role: 'root', db: 'admin' }] });
    print('bootstrap: user root is created');
  } catch (error) {
    if (error.code === UNAUTHORIZED) {
      print(`bootstrap: this database has users, but root does not have the password in ${SECRET}. The volume with the`
        + ' secrets and that with the data belong to different installations; see docs/OPERATIONS.md');
      quit(78);
    }
    if (error.code !== USER_EXISTS) throw error;
  }
}
print('bootstrap: the database is ready for its users');
