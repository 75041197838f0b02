//! Python bindings of `ecg`. The types and docstrings for Python are in `python/bedside_ecg/__init__.pyi`.
//!
//! A contiguous `float32` array is used in place: `detect` makes no copy of it, and `analyze` makes one, because a strip
//! owns its samples. Any other array is converted by NumPy first, which copies it. Results are moved into NumPy, not
//! copied. The global interpreter lock is released during the analysis; another thread must not write to the array
//! meanwhile.

use std::path::PathBuf;

use ecg::Strip;
use ecg_cli::report::{self, LeadReport, Median, Wave};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyFixedUnicode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

/// Sampling rates that the detector supports, in hertz.
const RATES_HZ: std::ops::RangeInclusive<f64> = 10.0..=100_000.0;

/// Beats of a signal.
#[pyclass(frozen, get_all)]
struct Beats {
    sample: Py<PyArray1<i64>>,
    confidence: Py<PyArray1<f32>>,
    r#type: Py<PyArray1<PyFixedUnicode<1>>>,
    type_confidence: Py<PyArray1<f32>>,
    waves: Py<PyArray2<f64>>,
}

/// A finding of the rhythm.
#[pyclass(frozen, get_all)]
struct Finding {
    code: &'static str,
    start_s: f64,
    end_s: f64,
    evidence: String,
}

/// Result of `analyze`.
#[pyclass(frozen, get_all)]
struct Analysis {
    heart_rate_bpm: Option<f64>,
    no_heart_rate_reason: Option<String>,
    quality: &'static str,
    beats: Py<Beats>,
    pacing_pulses_s: Py<PyArray1<f64>>,
    findings: Vec<Py<Finding>>,
    intervals_ms: Py<PyDict>,
    st_mv: Py<PyDict>,
}

/// One lead of a recording.
#[pyclass(frozen, get_all)]
struct Lead {
    name: Option<String>,
    fs: f64,
    signal: Py<PyArray1<f32>>,
    warnings: Vec<String>,
}

/// Result of `read`.
#[pyclass(frozen, get_all)]
struct Recording {
    leads: Vec<Py<Lead>>,
    selected: usize,
    start: Option<String>,
    other_signals: Vec<String>,
}

#[pymethods]
impl Beats {
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.sample.bind(py).len()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Beats: {}>", self.__len__(py)?))
    }
}

#[pymethods]
impl Finding {
    fn __repr__(&self) -> String {
        format!(
            "<Finding {} from {:.1} s to {:.1} s: {}>",
            self.code, self.start_s, self.end_s, self.evidence
        )
    }
}

#[pymethods]
impl Analysis {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let rate = self.heart_rate_bpm.map_or("no heart rate".to_owned(), |rate| format!("{rate:.1} bpm"));
        Ok(format!("<Analysis: {rate}, {}, {} beats>", self.quality, self.beats.get().__len__(py)?))
    }
}

#[pymethods]
impl Lead {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.name.as_deref().unwrap_or("unnamed");
        Ok(format!("<Lead {name}: {} samples at {} Hz>", self.signal.bind(py).len()?, self.fs))
    }
}

#[pymethods]
impl Recording {
    fn __repr__(&self) -> String {
        format!("<Recording: {} leads>", self.leads.len())
    }
}

/// Return the indices of the R peaks, in order.
///
/// signal: float32 or float64, shape (n,), millivolts; the scale does not matter. NaN and infinity are missing samples.
/// fs: samples per second, 10 to 100000.
#[pyfunction]
fn detect<'py>(py: Python<'py>, signal: &Bound<'py, PyAny>, fs: f64) -> PyResult<Bound<'py, PyArray1<i64>>> {
    check_rate(fs)?;
    let array = float32(signal)?;
    let array = array.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))?;
    let samples = array.as_slice()?;
    let beats: Vec<i64> =
        py.detach(|| ecg::detect::detect(samples, fs).iter().map(|beat| beat.sample as i64).collect());
    Ok(beats.into_pyarray(py))
}

/// Return beats, heart rate, quality, waves, beat types and rhythm.
///
/// signal: float32 or float64, shape (n,), millivolts. NaN and infinity are missing samples: up to 0.1 s of them are
/// interpolated. fs: samples per second, 10 to 100000.
#[pyfunction]
fn analyze(py: Python<'_>, signal: &Bound<'_, PyAny>, fs: f64) -> PyResult<Analysis> {
    check_rate(fs)?;
    let array = float32(signal)?;
    let array = array.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))?;
    let samples = array.as_slice()?;
    let report = py.detach(|| {
        let finite = |sample: &f32| if sample.is_finite() { *sample } else { f32::NAN };
        let strip = Strip::from_samples_with_gaps(fs, samples.iter().map(finite).collect());
        report::lead_report(&strip, &ecg::analyze(&strip))
    });
    to_python(py, report, fs)
}

/// Read all leads of a text (CSV), EDF, EDF+ or BDF file, or of a WFDB record by its header (.hea).
#[pyfunction]
#[pyo3(signature = (path, *, lead = None, sample_rate = None))]
fn read(
    py: Python<'_>,
    path: PathBuf,
    lead: Option<String>,
    sample_rate: Option<f64>,
) -> PyResult<Recording> {
    let input = py
        .detach(|| ecg_cli::input::open(&path, lead.as_deref(), sample_rate))
        .map_err(PyValueError::new_err)?;
    let leads = input.recording.leads.into_iter().map(|lead| {
        let Strip { sample_rate_hz, lead: name, segments, warnings, .. } = lead.strip;
        let signal = join(segments, sample_rate_hz).into_pyarray(py);
        signal.call_method("setflags", (), Some(&[("write", false)].into_py_dict(py)?))?;
        let warnings = warnings.into_iter().map(|warning| warning.message).collect();
        Py::new(py, Lead { name, fs: sample_rate_hz, signal: signal.unbind(), warnings })
    });
    Ok(Recording {
        leads: leads.collect::<PyResult<_>>()?,
        selected: input.recording.selected,
        start: input.start.as_ref().map(report::iso_8601),
        other_signals: input.recording.other_signals,
    })
}

/// The samples of all segments with NaN in the gaps. A single segment is moved.
fn join(mut segments: Vec<ecg::Segment>, rate_hz: f64) -> Vec<f32> {
    if let [only] = segments.as_mut_slice()
        && only.start_s == 0.0
    {
        return std::mem::take(&mut only.samples);
    }
    let mut out = Vec::new();
    for segment in segments {
        let first = (segment.start_s * rate_hz).round() as usize;
        out.resize(first.max(out.len()), f32::NAN);
        out.extend(segment.samples);
    }
    out
}

fn check_rate(fs: f64) -> PyResult<()> {
    if RATES_HZ.contains(&fs) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("fs must be 10 to 100000 samples per second, not {fs}")))
}

/// The signal as a contiguous array of `float32`: the array itself if it is one, else a copy made by NumPy.
fn float32<'py>(signal: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<f32>>> {
    if let Ok(array) = signal.cast::<PyArray1<f32>>() {
        let flags = signal.getattr("flags")?;
        let is = |flag: &str| flags.getattr(flag)?.extract::<bool>();
        if is("c_contiguous")? && is("aligned")? {
            return Ok(array.clone());
        }
        return Ok(signal.call_method1("copy", ("C",))?.cast_into()?);
    }
    if signal.cast::<PyArray1<f64>>().is_ok() {
        return Ok(signal.call_method1("astype", ("float32", "C"))?.cast_into()?);
    }
    let found = match (signal.getattr("dtype"), signal.getattr("shape")) {
        (Ok(dtype), Ok(shape)) => format!("{dtype} of shape {shape}"),
        _ => signal.get_type().to_string(),
    };
    Err(PyTypeError::new_err(format!(
        "signal must be a one-dimensional NumPy array of float32 or float64, not {found}"
    )))
}

fn to_python(py: Python<'_>, report: LeadReport, fs: f64) -> PyResult<Analysis> {
    let beats = &report.beats;
    let array = |values: Vec<f32>| values.into_pyarray(py).unbind();
    let wave = |wave: &Option<Wave>| wave.map_or([f64::NAN; 3], |wave| [wave.on_s, wave.peak_s, wave.end_s]);
    let waves: Vec<f64> =
        beats.iter().flat_map(|beat| [&beat.p, &beat.qrs, &beat.t].map(wave)).flatten().collect();
    let medians = |values: &[(&str, Option<Median>)]| -> PyResult<Py<PyDict>> {
        Ok(values.iter().map(|(name, it)| (*name, it.map(|it| it.median))).into_py_dict(py)?.unbind())
    };
    let (intervals, st) = (&report.intervals_ms, &report.st_mv);
    let findings = report.findings.into_iter().map(|it| {
        let report::Finding { code, start_s, end_s, evidence } = it;
        Py::new(py, Finding { code, start_s, end_s, evidence })
    });
    Ok(Analysis {
        heart_rate_bpm: report.heart_rate.map(|rate| rate.mean_bpm),
        no_heart_rate_reason: report.no_heart_rate_reason,
        quality: report.quality,
        beats: Py::new(
            py,
            Beats {
                sample: beats
                    .iter()
                    .map(|beat| (beat.time_s * fs).round() as i64)
                    .collect::<Vec<_>>()
                    .into_pyarray(py)
                    .unbind(),
                confidence: array(beats.iter().map(|beat| beat.confidence).collect()),
                r#type: beats
                    .iter()
                    .map(|beat| PyFixedUnicode([u32::from(beat.kind)]))
                    .collect::<Vec<_>>()
                    .into_pyarray(py)
                    .unbind(),
                type_confidence: array(beats.iter().map(|beat| beat.type_confidence).collect()),
                waves: waves.into_pyarray(py).reshape([beats.len(), 9])?.unbind(),
            },
        )?,
        pacing_pulses_s: report.pacing_pulses_s.into_pyarray(py).unbind(),
        findings: findings.collect::<PyResult<_>>()?,
        intervals_ms: medians(&[
            ("pr", intervals.pr),
            ("qrs", intervals.qrs),
            ("qt", intervals.qt),
            ("qtc_bazett", intervals.qtc_bazett),
            ("qtc_fridericia", intervals.qtc_fridericia),
        ])?,
        st_mv: medians(&[("j60", st.j60), ("j80", st.j80)])?,
    })
}

/// The module `bedside_ecg._native`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{Analysis, Beats, Finding, Lead, Recording, analyze, detect, read};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
