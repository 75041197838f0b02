//! The settings file and the command line.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use clap::Parser;
use ui::{ConnectionArgs, Settings, SettingsFile, Theme, read_credentials};

#[derive(Debug, Parser)]
struct App {
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn args(flags: &[&str]) -> ConnectionArgs {
    App::try_parse_from(["app"].iter().chain(flags)).unwrap().connection
}

#[test]
fn settings_survive_a_restart_and_are_readable_by_the_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = SettingsFile::at(folder.path().join("bedside/patient.json"));
    assert_eq!(file.load::<Settings>().unwrap(), Settings::default(), "there is no file");
    let settings = Settings {
        gateway: "http://ward:5011".into(),
        token: "t0k3n".into(),
        theme: Theme::Dark,
        ..Default::default()
    };
    file.save(&settings).unwrap();
    assert_eq!(file.load::<Settings>().unwrap(), settings);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    std::fs::write(file.path(), r#"{"gateway":"http://old:1","unknown":1}"#).unwrap();
    assert_eq!(file.load::<Settings>().unwrap().gateway, "http://old:1", "unknown fields are ignored");
    std::fs::write(file.path(), "{").unwrap();
    let error = file.load::<Settings>().unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn flags_override_the_file_and_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let saved =
        Settings { gateway: "http://saved:1".into(), nats: "nats://saved:4222".into(), ..Default::default() };
    let given = args(&[
        "--gateway",
        "http://flag:2",
        "--token-file",
        token_file.to_str().unwrap(),
        "--theme",
        "dark",
    ]);
    let shown = given.apply_to(&saved).unwrap();
    assert_eq!((shown.gateway.as_str(), shown.token.as_str()), ("http://flag:2", "s3cret"));
    assert_eq!((shown.nats.as_str(), shown.theme), ("nats://saved:4222", Theme::Dark));
    let edited = Settings { nats: String::new(), ..shown.clone() };
    let written = saved.with_edits(&shown, &edited);
    assert_eq!(written, Settings { nats: String::new(), ..saved });
    assert!(!format!("{shown:?}").contains("s3cret"), "a token is never logged");
}

#[test]
fn unreadable_files_in_settings_are_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no-such-file").display().to_string();
    let error =
        Settings { ca: missing.clone(), ..Default::default() }.gateway_client().unwrap_err().to_string();
    assert!(error.contains("file of certificates") && error.contains(&missing), "{error}");
    let broken = Settings { nats: "nats://a:4222".into(), nats_credentials: missing, ..Default::default() };
    let error = broken.nats_settings().unwrap_err().to_string();
    assert!(error.contains("NATS credentials"), "{error}");
    let file = folder.path().join("creds");
    std::fs::write(&file, "\n").unwrap();
    assert!(read_credentials(&file).unwrap_err().to_string().contains("empty"));
    std::fs::write(&file, "monitor:pass:word\n").unwrap();
    let expected = client::NatsCredentials::Password { user: "monitor".into(), password: "pass:word".into() };
    assert_eq!(read_credentials(&file).unwrap(), expected);
    assert!(Settings::default().nats_settings().unwrap().is_none(), "without an address there is no NATS");
    assert!(Settings { gateway: "ftp://x".into(), ..Default::default() }.gateway_client().is_err());
}

#[test]
fn nats_user_of_the_command_line_is_used_and_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "s3cret\n").unwrap();
    let saved = Settings {
        nats: "nats://127.0.0.1:4222".into(),
        nats_credentials: "/no/such/file".into(),
        ..Default::default()
    };
    let given = args(&["--nats-user", "monitor", "--nats-password-file", password_file.to_str().unwrap()]);
    let settings = given.apply_to(&saved).unwrap();
    let expected =
        client::NatsCredentials::Password { user: "monitor".to_owned(), password: "s3cret".to_owned() };
    assert_eq!(settings.nats_settings().unwrap().unwrap().credentials, Some(expected));
    assert!(!format!("{settings:?}").contains("s3cret"));
    let file = SettingsFile::at(folder.path().join("settings.json"));
    file.save(&settings).unwrap();
    assert!(!std::fs::read_to_string(file.path()).unwrap().contains("s3cret"));
    assert_eq!(saved.with_edits(&settings, &settings), saved);
    assert!(args(&["--nats-user", "monitor"]).apply_to(&saved).is_err(), "a password is required");
}
