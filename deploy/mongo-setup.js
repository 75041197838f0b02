// Makes the replica set of one server, and a user for each service with the role it needs. Runs at every start: what is
// there already stays, and passwords become those of the secrets. By hand: see docs/OPERATIONS.md.

const fs = require('fs');

const host = process.env.MONGODB_SETUP_HOST;
const database = process.env.DATABASE;
const password = (user) => fs.readFileSync(`/secrets/mongo/${user}-password`, 'utf8').trim();

const READS = [{ role: 'read', db: database }];
const WRITES = [{ role: 'readWrite', db: database }];
const USERS = [
  // Reads only.
  { db: database, user: 'query', roles: READS },
  { db: database, user: 'ingest', roles: WRITES },
  { db: database, user: 'setup', roles: WRITES },
  // For deploy/backup and deploy/restore.
  { db: 'admin', user: 'backup', roles: [{ role: 'backup', db: 'admin' }, { role: 'restore', db: 'admin' }] },
];

// A server that starts for the first time restarts once, when its root user is made.
function connected() {
  const uri = `mongodb://root:${password('root')}@${host}/admin?directConnection=true&serverSelectionTimeoutMS=2000`;
  for (let tries = 0; ; tries++) {
    try {
      return connect(uri);
    } catch (error) {
      if (tries === 60) throw error;
      sleep(1000);
    }
  }
}

function replicaSet(admin) {
  try {
    admin.runCommand({ replSetGetStatus: 1 }).ok || initiate(admin);
  } catch (error) {
    if (error.codeName !== 'NotYetInitialized') throw error;
    initiate(admin);
  }
  for (let tries = 0; !admin.runCommand({ hello: 1 }).isWritablePrimary; tries++) {
    if (tries === 120) throw new Error('the replica set has no primary');
    sleep(500);
  }
}

function initiate(admin) {
  admin.runCommand({ replSetInitiate: { _id: 'rs0', members: [{ _id: 0, host }] } });
  print('replica set rs0 is made');
}

const admin = connected();
replicaSet(admin);
for (const { db, user, roles } of USERS) {
  const of = admin.getSiblingDB(db);
  const known = of.runCommand({ usersInfo: user }).users.length > 0;
  const command = known ? 'updateUser' : 'createUser';
  const said = of.runCommand({ [command]: user, pwd: password(user), roles });
  if (!said.ok) throw new Error(`user ${user}: ${said.errmsg}`);
}
print(`users of ${database} are there`);
