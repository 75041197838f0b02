//! Login with an account: the form and the outbox stay, whoever is logged in.

use client::{Gateway, Settings, Token};
use patient::Args;
use proto_json::Mrn;
use proto_json::users::{NewUser, Sensitive, UserChange, UserRole};
use testkit::{Mode, Service, System, test_data};

use crate::fixture::{Fixture, run_isolated};

const PASSWORD: &str = "correct horse";

/// Calls the server as its administrator.
fn as_admin<T>(url: &str, call: impl AsyncFnOnce(Gateway) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let token = Token::new("root-token").unwrap();
    runtime.block_on(call(Gateway::new(&Settings::new(url).with_token(Some(token))).unwrap()))
}

fn log_in(app: &Fixture) {
    app.type_into("Account", "anna");
    app.type_into("Password", PASSWORD);
    app.press("Log in");
}

#[test]
fn session_that_ends_asks_again_and_keeps_form_and_outbox() {
    run_isolated("login::session_that_ends_asks_again_and_keeps_form_and_outbox", || async {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        let digest = proto_json::BlobHash::of(b"root-token");
        std::fs::write(&tokens, format!("root admin {digest}\n")).unwrap();
        let mut system = System::start_with(Mode::Standalone, &["--tokens", tokens.to_str().unwrap()]);
        let url = system.url();
        as_admin(&url, async |admin| {
            let new = NewUser {
                name: "anna".parse().unwrap(),
                display_name: Some("Anna Berg".to_owned()),
                role: UserRole::Nurse,
                wards: None,
                password: Sensitive(PASSWORD.to_owned()),
            };
            admin.add_user(&new).await.unwrap();
        });
        let mut app = Fixture::with_args(&url, Args::default());
        app.until("the login", |app| app.api(|api| api.get_asks_login())).await;
        app.type_into("Account", "anna");
        app.type_into("Password", "wrong password");
        app.press("Log in");
        app.until("the reason", |app| app.has_start("The name or the password is wrong")).await;
        log_in(&app);
        app.until_connected().await;
        app.until("the account", |app| app.has("Account: Anna Berg · nurse")).await;

        app.type_into("Medical record number", "7");
        app.type_into("Name", "Max");
        app.select_file("ECG", &app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1))).await;
        as_admin(&url, async |admin| {
            let change = UserChange { role: Some(UserRole::Physician), ..UserChange::default() };
            admin.change_user(&"anna".parse().unwrap(), &change).await.unwrap();
        });
        app.until("asked again", |app| app.has_start("The session has ended.")).await;
        app.press("Cancel");
        app.upload().await;
        app.until_message("Not uploaded.").await;
        assert_eq!(app.value("Medical record number"), "7");
        assert!(app.has("strip.csv"), "the file is kept");
        app.api(|api| api.invoke_ask_login());
        log_in(&app);
        app.until("the role", |app| app.has("Account: Anna Berg · physician")).await;
        app.upload().await;
        app.until_message("New patient 7 registered.").await;
        let saved = std::fs::read_to_string(app.path("settings.json")).unwrap_or_default();
        assert!(!saved.contains("session") && !saved.contains(PASSWORD), "{saved}");

        // After a restart nobody is logged in, and the outbox still has its upload.
        system.service(Service::Gateway).kill();
        app.until("offline", |app| app.value("Connection") == "offline").await;
        app.type_into("Medical record number", "8");
        app.type_into("Name", "Eve");
        app.upload().await;
        app.until_message("is kept on this computer").await;
        app.restart(Args::default());
        system.service(Service::Gateway).restart();
        app.until("the login", |app| app.api(|api| api.get_asks_login())).await;
        app.until("it waits", |app| app.has("1 waiting")).await;
        log_in(&app);
        app.until("it is sent", |app| !app.has("1 waiting")).await;
        let stored = as_admin(&url, async |admin| admin.patient(Mrn::new(8).unwrap()).await.unwrap());
        assert_eq!(stored.unwrap().name.as_deref(), Some("Eve"));
    });
}
