//! Settings: the file, the flags, and what wins.
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
fn settings_survive_a_restart_and_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = SettingsFile::at(folder.path().join("bedside/patient.json"));
    assert_eq!(file.load::<Settings>().unwrap(), Settings::default(), "no file yet");
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
    assert_eq!(
        file.load::<Settings>().unwrap().gateway,
        "http://old:1",
        "other versions' files are read, too"
    );
    std::fs::write(file.path(), "{").unwrap();
    let told = file.load::<Settings>().unwrap_err().to_string();
    assert!(told.contains("cannot be read"), "{told}");
}

#[test]
fn flags_win_over_the_file_and_are_not_written_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let kept =
        Settings { gateway: "http://kept:1".into(), nats: "nats://kept:4222".into(), ..Default::default() };
    let given = args(&[
        "--gateway",
        "http://flag:2",
        "--token-file",
        token_file.to_str().unwrap(),
        "--theme",
        "dark",
    ]);
    let shown = given.apply_to(&kept).unwrap();
    assert_eq!((shown.gateway.as_str(), shown.token.as_str()), ("http://flag:2", "s3cret"));
    assert_eq!((shown.nats.as_str(), shown.theme), ("nats://kept:4222", Theme::Dark));
    let edited = Settings { nats: String::new(), ..shown.clone() };
    let written = kept.with_edits(&shown, &edited);
    assert_eq!(written, Settings { nats: String::new(), ..kept });
    assert!(!format!("{shown:?}").contains("s3cret"), "a token is never shown");
}

#[test]
fn files_that_settings_name_are_told_of_when_they_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no-such-file").display().to_string();
    let told =
        Settings { ca: missing.clone(), ..Default::default() }.gateway_client().unwrap_err().to_string();
    assert!(told.contains("file of certificates") && told.contains(&missing), "{told}");
    let broken = Settings { nats: "nats://a:4222".into(), nats_credentials: missing, ..Default::default() };
    let told = broken.nats_settings().unwrap_err().to_string();
    assert!(told.contains("NATS credentials"), "{told}");
    let file = folder.path().join("creds");
    std::fs::write(&file, "\n").unwrap();
    assert!(read_credentials(&file).unwrap_err().to_string().contains("empty"));
    std::fs::write(&file, "monitor:pass:word\n").unwrap();
    let expected = client::NatsCredentials::Password { user: "monitor".into(), password: "pass:word".into() };
    assert_eq!(read_credentials(&file).unwrap(), expected);
    assert!(Settings::default().nats_settings().unwrap().is_none(), "no address, no broker");
    assert!(Settings { gateway: "ftp://x".into(), ..Default::default() }.gateway_client().is_err());
}
