//! Operations of sessions, users and emergency access.

use proto_json::users::{
    BreakGlass, Grant, LoginRequest, NewUser, PasswordChange, Session, User, UserChange, UserList,
};
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::document::{Schemas, operation};
use super::replies::Replies;

fn with_body<T: JsonSchema>(schemas: &mut Schemas, mut operation: Value) -> Value {
    let schema = schemas.of::<T>();
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    operation
}

fn of_user(mut operation: Value) -> Value {
    operation["parameters"] = json!([{
        "in": "path", "name": "name", "required": true, "description": "Name of a user.", "schema": { "type": "string" }
    }]);
    operation
}

fn open(mut operation: Value) -> Value {
    operation["security"] = json!([]);
    operation
}

fn done(description: &str) -> Value {
    json!({ "description": description })
}

fn redirect(description: &str) -> Value {
    let text = json!({ "schema": { "type": "string" } });
    json!({ "description": description, "headers": { "Location": text, "Set-Cookie": text } })
}

/// Adds the operations to the paths of the document.
pub(super) fn add(schemas: &mut Schemas, paths: &mut Value) {
    let session = schemas.of::<Session>();
    let user = schemas.of::<User>();
    let users = schemas.of::<UserList>();
    let grant = schemas.of::<Grant>();
    let show = operation(
        "sessions",
        "getSession",
        "Who is logged in; in 401, how a client can log in",
        &[],
        Replies::new().json("The session", &session).guarded().problem(503),
    );
    let log_in = operation(
        "sessions",
        "logIn",
        "Log in with a token or a local account; sets the cookie `bedside_session`",
        &[],
        Replies::new()
            .json("The session", &session)
            .guarded()
            .problem(400)
            .problem(413)
            .problem(415)
            .problem(502)
            .problem(503),
    );
    let log_in = with_body::<LoginRequest>(schemas, log_in);
    let log_out = operation(
        "sessions",
        "logOut",
        "End the session",
        &[],
        Replies::new().add(204, done("It has ended.")).problem(409).problem(429).problem(502).problem(503),
    );
    let begin = operation(
        "sessions",
        "beginOidc",
        "Log in with the OpenID Connect provider of the site",
        &[],
        Replies::new()
            .add(303, redirect("Go to the provider."))
            .problem(404)
            .problem(429)
            .problem(502)
            .problem(503),
    );
    let finish = operation(
        "sessions",
        "finishOidc",
        "Where the provider sends the browser back",
        &[],
        Replies::new()
            .add(303, redirect("Logged in; go to the page."))
            .problem(400)
            .problem(404)
            .problem(429)
            .problem(502)
            .problem(503),
    );
    let list = operation(
        "users",
        "listUsers",
        "All users, ascending by name",
        &[],
        Replies::new().json("The users", &users).read(),
    );
    let created = json!({ "description": "The user", "content": { "application/json": { "schema": user } } });
    let add = operation(
        "users",
        "addUser",
        "Add a user",
        &[],
        Replies::new().add(201, created).read().problem(409).problem(413).problem(422),
    );
    let add = with_body::<NewUser>(schemas, add);
    let change = operation(
        "users",
        "changeUser",
        "Change a user",
        &[],
        Replies::new().json("The user", &user).read().problem(404).problem(409).problem(413).problem(422),
    );
    let change = of_user(with_body::<UserChange>(schemas, change));
    let remove = of_user(operation(
        "users",
        "removeUser",
        "Remove a user",
        &[],
        Replies::new().add(204, done("The user is removed.")).read().problem(404).problem(409).problem(413),
    ));
    let password = operation(
        "users",
        "changePassword",
        "Change the own password; ends all sessions of the user",
        &[],
        Replies::new()
            .add(204, done("The password is changed."))
            .read()
            .problem(404)
            .problem(409)
            .problem(413)
            .problem(422),
    );
    let password = of_user(with_body::<PasswordChange>(schemas, password));
    let emergency = operation(
        "patients",
        "breakGlass",
        "Access a patient of another ward in an emergency, for a limited time",
        &["Mrn"],
        Replies::new()
            .json("The access", &grant)
            .read()
            .problem(400)
            .problem(409)
            .problem(413)
            .problem(415)
            .problem(422),
    );
    let emergency = with_body::<BreakGlass>(schemas, emergency);
    let Value::Object(paths) = paths else { return };
    let further = [
        ("/api/v1/session", json!({ "get": open(show), "post": open(log_in), "delete": log_out })),
        ("/api/v1/session/oidc", json!({ "get": open(begin) })),
        ("/api/v1/session/oidc/callback", json!({ "get": open(finish) })),
        ("/api/v1/users", json!({ "get": list, "post": add })),
        ("/api/v1/users/{name}", json!({ "patch": change, "delete": remove })),
        ("/api/v1/users/{name}/password", json!({ "post": password })),
        ("/api/v1/patients/{mrn}/break-glass", json!({ "post": emergency })),
    ];
    paths.extend(further.map(|(path, item)| (path.to_owned(), item)));
}
