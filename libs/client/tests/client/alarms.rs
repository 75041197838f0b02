//! Calls for alarms and limits, and their events over the gateway's stream.

use client::{AlarmQuery, AlarmSelection, ClientError, Feed, FeedEvent, FeedMode, FeedSettings, Outdated};
use proto_json::alarms::{AlarmActionRequest, AlarmLimits, AlarmPriority, AudioPauseRequest, LimitScope};
use proto_json::{RecordId, UploadId};

use crate::fixture::{FeedReader, System, mrn, named, store};

fn status(error: &ClientError) -> u16 {
    match error {
        ClientError::Refused(problem) | ClientError::NotFound(problem) => problem.status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_changed_by_version_and_a_rejected_change_changes_nothing() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    store(&gateway, 7, &named("Ann")).await;
    let mut reader = FeedReader::of(Feed::start(FeedSettings {
        alarms: true,
        ..FeedSettings::new(gateway.clone(), None)
    }));
    reader.until_mode(FeedMode::ServerSentEvents).await;
    assert_eq!(reader.alarms_failure, None);

    let before = gateway.alarm_limits(LimitScope::Site).await.unwrap();
    assert_eq!((before.version, before.limits), (0, AlarmLimits::default()));
    assert!(before.effective.heart_rate_high.is_some() && before.effective.asystole_s.is_some());
    let limits = AlarmLimits { heart_rate_high: Some(130), ..AlarmLimits::default() };
    let after = gateway.set_alarm_limits(LimitScope::Site, &limits, 0).await.unwrap();
    assert_eq!((after.version, after.effective.heart_rate_high), (1, Some(130)));
    assert!(after.changed.is_some());
    let last = FeedEvent::Outdated(Outdated::Limits(LimitScope::Site));
    reader.until("the change of the limits", |reader| reader.events.contains(&last)).await;

    let other = AlarmLimits { heart_rate_high: Some(140), ..AlarmLimits::default() };
    let conflict = gateway.set_alarm_limits(LimitScope::Site, &other, 0).await.unwrap_err();
    assert_eq!(status(&conflict), 409);
    let patient = LimitScope::Patient { mrn: mrn(7) };
    let crossing = AlarmLimits { heart_rate_low: Some(140), ..AlarmLimits::default() };
    let crossing = gateway.set_alarm_limits(patient, &crossing, 0).await.unwrap_err();
    assert_eq!(status(&crossing), 422);
    let unchanged = gateway.alarm_limits(patient).await.unwrap();
    assert_eq!(
        (unchanged.version, unchanged.effective.heart_rate_high),
        (0, Some(130)),
        "inherited from the site"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_are_listed_and_an_unknown_alarm_cannot_be_changed() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    store(&gateway, 7, &named("Ann")).await;
    assert_eq!(gateway.open_alarms(None).await.unwrap(), []);
    for selection in [AlarmSelection::Open, AlarmSelection::Ended, AlarmSelection::All] {
        let query = AlarmQuery {
            selection,
            mrn: Some(mrn(7)),
            priority: Some(AlarmPriority::High),
            limit: Some(5),
            cursor: None,
        };
        let page = gateway.alarms(&query).await.unwrap();
        assert!(page.items.is_empty() && page.next.is_none());
    }
    let unknown: RecordId = UploadId::generate().record("alarm", 0);
    let request = AlarmActionRequest::default();
    for error in [
        gateway.acknowledge_alarm(unknown, request).await,
        gateway.pause_alarm_audio(unknown, AudioPauseRequest { version: None, seconds: Some(60) }).await,
        gateway.reset_alarm(unknown, request).await,
    ] {
        assert_eq!(status(&error.unwrap_err()), 404);
    }
    assert!(gateway.acknowledge_alarms_of(mrn(7)).await.unwrap().items.is_empty());
}
