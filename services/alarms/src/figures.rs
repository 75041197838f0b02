//! Metrics of the service. They exist from the start, so that an alert can distinguish 0 from no data.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use proto_json::alarms::{AlarmPriority, AlarmRule};
use runtime::Metrics;

pub(crate) fn describe() {
    Metrics::install().of("alarms");
    describe_counter!("bedside_alarms_raised_total", "Alarms that were raised, by rule");
    for rule in AlarmRule::ALL {
        counter!("bedside_alarms_raised_total", "rule" => rule.name()).increment(0);
    }
    describe_gauge!("bedside_alarms_open", "Open alarms, by priority; 0 in a process that does not evaluate");
    for priority in AlarmPriority::ALL {
        gauge!("bedside_alarms_open", "priority" => priority.name()).set(0.0);
    }
    describe_gauge!("bedside_alarms_evaluating", "1 in the process that evaluates the rules, otherwise 0");
    gauge!("bedside_alarms_evaluating").set(0.0);
    describe_gauge!("bedside_alarms_waiting_changes", "Changes that wait until the store can be written");
    gauge!("bedside_alarms_waiting_changes").set(0.0);
    describe_histogram!(
        "bedside_alarm_delay_seconds",
        Unit::Seconds,
        "Time from the input that raises an alarm to its publication"
    );
    let _ = histogram!("bedside_alarm_delay_seconds");
}
