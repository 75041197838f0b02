"""Tests of the start-up scripts of the database with the real mongosh."""

import unittest

import pymongo.errors
from database import Database

UNAUTHORIZED = 13


class FirstStart(unittest.TestCase):
    def setUp(self):
        self.database = Database()
        self.addCleanup(self.database.close)

    def assert_users_have_their_rights(self):
        by = {user: self.database.client(user).bedside for user in ("ingest", "query", "alarms", "setup", "backup")}
        self.addCleanup(lambda: [one.client.close() for one in by.values()])
        by["setup"].create_collection("patients", check_exists=False)
        by["setup"].patients.create_index("name_key")
        by["ingest"].patients.insert_one({"_id": 1, "name": "Ann"})
        self.assertEqual(by["query"].patients.find_one()["name"], "Ann")
        by["ingest"].patients.update_one({"_id": 1}, {"$set": {"name": "Bea"}})
        self.assertEqual(by["backup"].patients.find_one()["name"], "Bea")
        self.assertIn("patients", by["backup"].list_collection_names())
        by["alarms"].alarms.insert_one({"_id": 1, "version": 1})
        by["alarms"].alarms.update_one({"_id": 1}, {"$set": {"version": 2}})
        self.assertEqual(by["alarms"].patients.find_one()["name"], "Bea")
        refused = {
            "alarms deletes": lambda: by["alarms"].alarms.delete_one({}),
            "alarms drops a collection": by["alarms"].alarms.drop,
            "query writes": lambda: by["query"].patients.insert_one({}),
            "query deletes": lambda: by["query"].patients.delete_one({}),
            "ingest drops a collection": by["ingest"].patients.drop,
            "ingest drops indexes": by["ingest"].patients.drop_indexes,
            "ingest defines an index": lambda: by["ingest"].patients.create_index("version"),
            "setup lists indexes": lambda: list(by["setup"].patients.list_indexes()),
            "setup reads": lambda: by["setup"].patients.find_one(),
            "setup writes": lambda: by["setup"].patients.insert_one({}),
            "setup drops a collection": by["setup"].patients.drop,
            "backup reads another database": lambda: by["backup"].client.other.patients.find_one(),
            "ingest creates a user": lambda: by["ingest"].command("createUser", "eve", pwd="x", roles=[]),
        }
        for what, attempt in refused.items():
            with self.subTest(what), self.assertRaises(pymongo.errors.OperationFailure) as refusal:
                attempt()
            self.assertEqual(refusal.exception.code, UNAUTHORIZED, what)

    def test_users_have_exactly_the_rights_they_need(self):
        self.database.set_up(self)
        self.assert_users_have_their_rights()

    def test_repeated_runs_change_only_passwords(self):
        self.database.set_up(self)
        root = self.database.client("root")
        self.addCleanup(root.close)
        state = lambda: [  # noqa: E731
            root.bedside.command("usersInfo", 1)["users"],
            root.bedside.command("rolesInfo", 1, showPrivileges=True)["roles"],
        ]
        before = state()
        self.database.set_password("query", "another")
        self.database.set_up(self)
        self.assertEqual(state(), before)
        with self.database.client("query", "another") as query:
            query.bedside.patients.find_one()
        with self.assertRaises(pymongo.errors.OperationFailure), self.database.client("query") as query:
            query.bedside.patients.find_one()

    def test_a_start_killed_at_any_step_is_completed_by_the_next(self):
        # A step that is done is not repeated, so the next step is the first command of the next run.
        for step in ("the replica set", "root"):
            self.assertTrue(self.database.run_and_kill_at("mongo-bootstrap.js", 1), step)
        # A role and a user for each of five services.
        for number in range(1, 11):
            self.assertTrue(self.database.run_and_kill_at("mongo-setup.js", number), number)
        self.database.set_up(self)
        self.assert_users_have_their_rights()

    def test_a_wrong_root_password_ends_the_first_start_with_a_message(self):
        self.database.set_up(self)
        self.database.set_password("root", "of another installation")
        status, printed = self.database.run("mongo-bootstrap.js")
        self.assertEqual(status, 78, printed)
        self.assertIn("different installations", printed)
        status, printed = self.database.run("mongo-setup.js", MONGODB_SETUP_PATIENCE_S="1")
        self.assertEqual(status, 1, printed)
        self.assertIn("the user or the password is wrong", printed)

    def test_an_administrator_of_an_external_database_creates_the_users(self):
        self.database.run("mongo-bootstrap.js")
        uri = self.database.secrets / "admin-uri"
        uri.write_text(f"mongodb://root:wrong@127.0.0.1:{self.database.port}/?authSource=admin")
        hosts = {"MONGODB_ADMIN_URI_FILE": str(uri), "MONGODB_HOSTS": "", "MONGODB_OPTIONS": ""}
        status, printed = self.database.run("mongo-setup.js", **hosts)
        self.assertEqual(status, 1, printed)
        uri.write_text(f"mongodb://root:password-of-root@127.0.0.1:{self.database.port}/?authSource=admin")
        status, printed = self.database.run("mongo-setup.js", **hosts)
        self.assertEqual(status, 0, printed)
        self.assert_users_have_their_rights()

    def test_a_server_without_member_name_waits_to_be_added_to_a_set(self):
        status, printed = self.database.run("mongo-bootstrap.js", MONGO_MEMBER="")
        self.assertEqual(status, 0, printed)
        self.assertIn("waits to be added", printed)
        self.assertEqual(self.database.commands, [])

    def test_a_secondary_is_not_changed(self):
        self.database.set_up(self)
        inner = self.database.dispatch

        def as_secondary(document, ctx):
            answer = inner(document, ctx)
            if next(iter(document), "") in ("hello", "isMaster", "ismaster"):
                answer.update(isWritablePrimary=False, ismaster=False, secondary=True, primary="mongo-2:27017")
            return answer

        self.database.dispatch = as_secondary
        self.database.commands.clear()
        status, printed = self.database.run("mongo-bootstrap.js")
        self.assertEqual(status, 0, printed)
        self.assertEqual(self.database.commands, [])


if __name__ == "__main__":
    unittest.main()
