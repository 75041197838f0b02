//! Query parameters of the reads of waveforms.

use std::str::FromStr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use http_server::problem::ApiError;
use proto_json::Timestamp;
use proto_json::waveform::{SampleRate, StreamId};
use proto_json::waveform_reads::{MAX_LISTED_MS, MAX_POINTS, MAX_READ_MS, WaveformFormat};
use serde::Deserialize;

use crate::params::sentence;

/// Range of a list without `from`, in milliseconds.
const DEFAULT_LISTED_MS: i64 = 24 * 3_600_000;

#[derive(Debug, Deserialize)]
struct Raw {
    channel: Option<String>,
    from: Option<String>,
    to: Option<String>,
    points: Option<String>,
    format: Option<String>,
    stream: Option<String>,
    rate: Option<String>,
}

impl Raw {
    async fn of<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(raw) =
            Query::from_request_parts(parts, state).await.map_err(|rejection: QueryRejection| {
                ApiError::invalid(format!("The query string cannot be read: {}.", rejection.body_text()))
            })?;
        Ok(raw)
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let parse = |text: &str| {
        text.parse().map_err(|error| ApiError::invalid(format!("`{name}` cannot be read: {error}.")))
    };
    text.map(parse).transpose()
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::invalid(format!("The parameter `{name}` is missing.")))
}

fn check_range(from: Timestamp, to: Timestamp, longest_ms: i64) -> Result<(), ApiError> {
    let length = to.millis_since(from);
    if length <= 0 {
        return Err(ApiError::invalid("`from` must be before `to`."));
    }
    if length > longest_ms {
        let days = longest_ms / (24 * 3_600_000);
        return Err(ApiError::invalid(format!("From `from` to `to` there must be at most {days} days.")));
    }
    Ok(())
}

fn range(from: Option<&str>, to: Option<&str>) -> Result<(Timestamp, Timestamp), ApiError> {
    let (from, to) = (required("from", time("from", from)?)?, required("to", time("to", to)?)?);
    check_range(from, to, MAX_READ_MS)?;
    Ok((from, to))
}

/// `?from=&to=` of the list of channels. Without `to`, the range ends now; without `from`, it is a day.
pub(crate) struct ListParams {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl<S: Send + Sync> FromRequestParts<S> for ListParams {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let raw = Raw::of(parts, state).await?;
        let to = time("to", raw.to.as_deref())?.unwrap_or_else(Timestamp::now);
        let from = time("from", raw.from.as_deref())?.unwrap_or_else(|| to.plus_millis(-DEFAULT_LISTED_MS));
        check_range(from, to, MAX_LISTED_MS)?;
        Ok(ListParams { from, to })
    }
}

/// `?channel=&from=&to=&points=`
pub(crate) struct ReadParams {
    pub(crate) channel: String,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) points: Option<u32>,
}

impl<S: Send + Sync> FromRequestParts<S> for ReadParams {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let raw = Raw::of(parts, state).await?;
        let channel = required("channel", raw.channel)?;
        let (from, to) = range(raw.from.as_deref(), raw.to.as_deref())?;
        let points = raw.points.map(|text| {
            let points = text.parse().ok().filter(|points| (1..=MAX_POINTS).contains(points));
            points.ok_or_else(|| ApiError::invalid(format!("`points` must be from 1 to {MAX_POINTS}.")))
        });
        Ok(ReadParams { channel, from, to, points: points.transpose()? })
    }
}

/// `?format=&from=&to=&stream=&rate=`
pub(crate) struct ExportParams {
    pub(crate) format: WaveformFormat,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) stream: Option<StreamId>,
    pub(crate) rate: Option<SampleRate>,
}

impl<S: Send + Sync> FromRequestParts<S> for ExportParams {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let raw = Raw::of(parts, state).await?;
        let format = required("format", raw.format)?;
        let format = WaveformFormat::from_name(&format).ok_or_else(|| {
            let names: Vec<&str> = WaveformFormat::ALL.iter().map(|format| format.name()).collect();
            ApiError::invalid(format!("`format` must be one of {}.", names.join(", ")))
        })?;
        let (from, to) = range(raw.from.as_deref(), raw.to.as_deref())?;
        let stream = raw.stream.map(|text| StreamId::from_str(&text)).transpose();
        let stream = stream.map_err(|_| ApiError::invalid("`stream` is not a UUID."))?;
        let rate = raw.rate.as_deref().map(parse_rate).transpose()?;
        Ok(ExportParams { format, from, to, stream, rate })
    }
}

/// `250` or `24989/400`.
fn parse_rate(text: &str) -> Result<SampleRate, ApiError> {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let (Ok(numerator), Ok(denominator)) = (numerator.parse(), denominator.parse()) else {
        return Err(ApiError::invalid(
            "`rate` must be a whole number or a fraction in Hz, such as 250 or 24989/400.",
        ));
    };
    SampleRate::new(numerator, denominator).map_err(|error| ApiError::invalid(sentence(&error)))
}
