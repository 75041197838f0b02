//! Users, sessions and failed logins.

use std::time::Duration;

use proto_json::users::{Grant, LoginMethod, Sensitive, StoredSession, StoredUser, User, UserName, UserRole};
use proto_json::{BedId, BlobHash, WardId};
use store::users::{Attempts, UserAdded, valid_sessions};
use store::{StoreError, UserStore};
use uuid::Uuid;

use crate::harness::{Fixture, Store, at, mrn, on_every_adapter};

on_every_adapter!(
    users_are_listed_by_name_and_survive_a_round_trip,
    user_is_added_once,
    user_is_replaced_only_by_the_next_version,
    session_is_valid_until_it_is_idle_expired_or_removed,
    change_of_the_epoch_or_removal_of_the_user_ends_its_sessions,
    use_and_emergency_accesses_of_a_session_are_stored,
    concurrent_attempts_are_all_counted_in_one_window,
    sweep_removes_only_what_has_ended,
);

fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

fn ward(number: u128) -> WardId {
    WardId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn user(text: &str, version: u64, epoch: u64) -> StoredUser {
    StoredUser {
        user: User {
            name: name(text),
            display_name: format!("Schwester {text} 王"),
            role: UserRole::Nurse,
            wards: Some(vec![ward(7), ward(u128::MAX)]),
            disabled: false,
            version,
            created_at: at(0),
            changed_at: at(version as i64),
            changed_by: "chief".to_owned(),
        },
        password_hash: Sensitive("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned()),
        epoch,
    }
}

pub(crate) fn session(secret: &str, of: Option<(&str, u64)>) -> StoredSession {
    StoredSession {
        key: BlobHash::of(secret.as_bytes()),
        name: of.map_or("station-3", |(name, _)| name).to_owned(),
        display_name: "Anna".to_owned(),
        role: "nurse".to_owned(),
        wards: Some(vec![ward(7)]),
        bed: of.is_none().then_some(BedId::from_uuid(Uuid::from_u128(9))),
        via: if of.is_some() { LoginMethod::Local } else { LoginMethod::Token },
        token: of.is_none().then(|| BlobHash::of(b"token")),
        epoch: of.map(|(_, epoch)| epoch),
        created_at: at(0),
        used_at: at(0),
        expires_at: at(100_000),
        idle: Duration::from_secs(60),
        grants: Vec::new(),
    }
}

async fn add(store: &dyn Store, user: &StoredUser) {
    assert_eq!(store.add_user(user).await.unwrap(), UserAdded::Added);
}

/// The valid ones of these sessions at this time, by their secrets.
async fn valid(store: &dyn Store, secrets: &[&str], millis: i64) -> Vec<String> {
    let keys: Vec<BlobHash> = secrets.iter().map(|secret| BlobHash::of(secret.as_bytes())).collect();
    let found = valid_sessions(store, &keys, at(millis)).await.unwrap();
    let is_valid =
        |secret: &&&str| found.iter().any(|session| session.key == BlobHash::of(secret.as_bytes()));
    secrets.iter().filter(is_valid).map(|secret| (*secret).to_owned()).collect()
}

async fn users_are_listed_by_name_and_survive_a_round_trip(Fixture { store, .. }: Fixture) {
    assert_eq!(store.users().await.unwrap(), []);
    let mut all = user("zoe", 1, 5);
    all.user.wards = None;
    all.user.role = UserRole::Admin;
    all.user.disabled = true;
    let mut none = user("anna.berg@ward-3", u64::from(u32::MAX), 1_800_000_000_000);
    none.user.wards = Some(Vec::new());
    add(&*store, &all).await;
    add(&*store, &none).await;
    assert_eq!(store.users().await.unwrap(), [none.clone(), all]);
    let named = store.users_named(&[name("nobody"), name("anna.berg@ward-3")]).await.unwrap();
    assert_eq!(named, [none]);
}

async fn user_is_added_once(Fixture { store, .. }: Fixture) {
    let first = user("anna", 1, 5);
    add(&*store, &first).await;
    add(&*store, &first).await;
    let mut other = first.clone();
    other.user.role = UserRole::Admin;
    assert_eq!(store.add_user(&other).await.unwrap(), UserAdded::Exists);
    assert_eq!(store.users().await.unwrap(), [first]);
    let adding = (0..8_u64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.add_user(&user("eve", 1, number)).await.unwrap() })
    });
    let results = futures::future::join_all(adding).await;
    let added = results.into_iter().filter(|result| *result.as_ref().unwrap() == UserAdded::Added).count();
    assert_eq!(added, 1);
}

async fn user_is_replaced_only_by_the_next_version(Fixture { store, .. }: Fixture) {
    assert!(!store.replace_user(&user("anna", 2, 5)).await.unwrap(), "there is no such user");
    add(&*store, &user("anna", 1, 5)).await;
    assert!(!store.replace_user(&user("anna", 3, 5)).await.unwrap());
    let mut second = user("anna", 2, 6);
    second.user.disabled = true;
    assert!(store.replace_user(&second).await.unwrap());
    assert!(store.replace_user(&second).await.unwrap(), "a repetition is harmless");
    assert!(!store.replace_user(&user("anna", 2, 5)).await.unwrap(), "another change has won");
    assert_eq!(store.users().await.unwrap(), [second]);
    assert!(store.remove_user(&name("anna")).await.unwrap());
    assert!(!store.remove_user(&name("anna")).await.unwrap());
    assert_eq!(store.users().await.unwrap(), []);
}

async fn session_is_valid_until_it_is_idle_expired_or_removed(Fixture { store, .. }: Fixture) {
    let stored = session("token", None);
    store.add_session(&stored).await.unwrap();
    let mut again = stored.clone();
    again.role = "admin".to_owned();
    store.add_session(&again).await.unwrap();
    assert_eq!(
        store.sessions(&[stored.key, BlobHash::of(b"?")]).await.unwrap(),
        std::slice::from_ref(&stored)
    );
    assert_eq!(valid(&*store, &["token", "other"], 59_999).await, ["token"]);
    assert_eq!(valid(&*store, &["token"], 60_000).await, [""; 0], "idle");
    store.use_sessions(&[(stored.key, at(90_000))]).await.unwrap();
    assert_eq!(valid(&*store, &["token"], 99_999).await, ["token"]);
    assert_eq!(valid(&*store, &["token"], 100_000).await, [""; 0], "expired");
    assert!(store.remove_session(stored.key).await.unwrap());
    assert!(!store.remove_session(stored.key).await.unwrap());
    assert_eq!(valid(&*store, &["token"], 90_001).await, [""; 0]);
}

async fn change_of_the_epoch_or_removal_of_the_user_ends_its_sessions(Fixture { store, .. }: Fixture) {
    add(&*store, &user("anna", 1, 5)).await;
    add(&*store, &user("ben", 1, 5)).await;
    let secrets = ["a", "b", "token", "earlier", "nobody"];
    for (secret, of) in [
        ("a", Some(("anna", 5))),
        ("b", Some(("ben", 5))),
        ("token", None),
        ("earlier", Some(("ben", 4))),
        ("nobody", Some(("eve", 5))),
    ] {
        store.add_session(&session(secret, of)).await.unwrap();
    }
    assert_eq!(valid(&*store, &secrets, 1).await, ["a", "b", "token"]);
    // Another display name alone ends no session.
    let mut renamed = user("anna", 2, 5);
    renamed.user.display_name = "Anna B.".to_owned();
    assert!(store.replace_user(&renamed).await.unwrap());
    assert_eq!(valid(&*store, &secrets, 1).await, ["a", "b", "token"]);
    assert!(store.replace_user(&user("anna", 3, 6)).await.unwrap());
    assert_eq!(valid(&*store, &secrets, 1).await, ["b", "token"]);
    let mut disabled = user("ben", 2, 5);
    disabled.user.disabled = true;
    assert!(store.replace_user(&disabled).await.unwrap());
    assert_eq!(valid(&*store, &secrets, 1).await, ["token"]);
    assert!(store.remove_user(&name("ben")).await.unwrap());
    add(&*store, &user("ben", 1, 9)).await;
    assert_eq!(valid(&*store, &secrets, 1).await, ["token"], "the new account has no old session");
}

async fn use_and_emergency_accesses_of_a_session_are_stored(Fixture { store, .. }: Fixture) {
    let stored = session("token", None);
    store.add_session(&stored).await.unwrap();
    store.use_sessions(&[(BlobHash::of(b"?"), at(1)), (stored.key, at(30_000))]).await.unwrap();
    store.use_sessions(&[(stored.key, at(20_000))]).await.unwrap();
    let grants = [7, 9_007_199_254_740_991_u64 >> 1]
        .map(|number| Grant { mrn: mrn(number), until: at(40_000 + (number % 10) as i64) });
    assert!(store.set_grants(stored.key, &grants).await.unwrap());
    assert!(!store.set_grants(BlobHash::of(b"?"), &grants).await.unwrap());
    let used = StoredSession { used_at: at(30_000), grants: grants.to_vec(), ..stored.clone() };
    assert_eq!(store.sessions(&[stored.key]).await.unwrap(), [used]);
    let now = valid_sessions(&*store, &[stored.key], at(40_007)).await.unwrap();
    let left: Vec<Grant> = grants.into_iter().filter(|grant| grant.until > at(40_007)).collect();
    assert_eq!(now[0].grants, left, "an access that is over is not returned");
}

async fn concurrent_attempts_are_all_counted_in_one_window(Fixture { store, .. }: Fixture) {
    let window = Duration::from_secs(60);
    let counting = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.count_attempt("name a", at(0), window).await.unwrap() })
    });
    let mut counts: Vec<u32> = Vec::new();
    for counted in futures::future::join_all(counting).await {
        let Attempts { count, until } = counted.unwrap();
        assert_eq!(until, at(60_000));
        counts.push(count);
    }
    counts.sort_unstable();
    // No attempt is free: each has a number of its own. A write that is repeated after a lost answer may count twice.
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
    let last = *counts.last().unwrap();
    assert!(last >= 8, "{counts:?}");
    let count = async |key: &str, millis| store.count_attempt(key, at(millis), window).await.unwrap();
    assert_eq!(count("name b", 0).await.count, 1);
    assert_eq!(count("name a", 59_999).await, Attempts { count: last + 1, until: at(60_000) });
    assert_eq!(count("name a", 60_000).await, Attempts { count: 1, until: at(120_000) });
    assert_eq!(count("name a", 60_001).await.count, 2);
    store.forgive_attempts("name a", false).await.unwrap();
    assert_eq!(count("name a", 60_002).await.count, 2);
    store.forgive_attempts("name a", true).await.unwrap();
    assert_eq!(count("name a", 60_003).await.count, 1);
    store.forgive_attempts("nothing", true).await.unwrap();
}

async fn sweep_removes_only_what_has_ended(Fixture { store, .. }: Fixture) {
    assert_eq!(store.sweep_sessions(at(0)).await.unwrap(), 0);
    let (one, mut two) = (session("one", None), session("two", None));
    two.expires_at = at(200_000);
    store.add_session(&one).await.unwrap();
    store.add_session(&two).await.unwrap();
    store.count_attempt("a", at(0), Duration::from_secs(10)).await.unwrap();
    store.count_attempt("b", at(0), Duration::from_secs(1_000)).await.unwrap();
    assert_eq!(store.sweep_sessions(at(100_001)).await.unwrap(), 1);
    assert_eq!(store.sessions(&[one.key, two.key]).await.unwrap(), [two]);
    assert_eq!(store.count_attempt("b", at(100_001), Duration::from_secs(1)).await.unwrap().count, 2);
}

/// A damaged user cannot log in.
#[tokio::test]
async fn damaged_user_is_reported_and_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = store::sqlite::SqliteStore::open(&path).unwrap();
    add(&*store, &user("anna", 1, 5)).await;
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    let text = b"$argon2id$v=19";
    let position = bytes.windows(text.len()).position(|window| window == text).unwrap();
    let mut bytes = bytes;
    bytes[position + 9] = b'x';
    std::fs::write(&path, bytes).unwrap();
    let store = store::sqlite::SqliteStore::open(&path).unwrap();
    let damaged = store.users_named(&[name("anna")]).await;
    assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{damaged:?}");
}
