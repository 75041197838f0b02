//! Writes the burst of each priority as a WAV file, to listen to or to measure with other programs. With `--play`, plays them on the
//! sound device instead.
//!
//!     cargo run -p bedside-alarm-sound --example render -- DIR
//!     cargo run -p bedside-alarm-sound --example render -- --play

use std::io::{Error, Result};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use alarm_sound::{
    AlarmSound, SAMPLE_RATE_HZ, SoundOutput, SoundPriority, SoundStatus, Volume, burst, burst_duration,
};

/// A WAV file with one channel of 16 bits.
fn wav(samples: &[f32]) -> Vec<u8> {
    let bytes = samples.len() as u32 * 2;
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend(b"RIFF");
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    // PCM, one channel.
    file.extend(1_u16.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(SAMPLE_RATE_HZ.to_le_bytes());
    file.extend((SAMPLE_RATE_HZ * 2).to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend(16_u16.to_le_bytes());
    file.extend(b"data");
    file.extend(bytes.to_le_bytes());
    for sample in samples {
        file.extend(((sample * f32::from(i16::MAX)) as i16).to_le_bytes());
    }
    file
}

fn play() -> Result<()> {
    let (sender, statuses) = mpsc::channel();
    let sound = AlarmSound::start(SoundOutput::Device, Volume::default(), move |status| {
        let _ = sender.send(status);
    })?;
    match statuses.recv_timeout(Duration::from_secs(10)) {
        Ok(SoundStatus::Ready) => {}
        Ok(SoundStatus::Missing(reason)) => return Err(Error::other(reason)),
        Err(error) => return Err(Error::other(error)),
    }
    for priority in SoundPriority::ALL {
        println!("{priority:?}");
        sound.test(priority);
        std::thread::sleep(burst_duration(priority) + Duration::from_secs(1));
    }
    Ok(())
}

fn main() -> Result<()> {
    let Some(target) = std::env::args().nth(1) else {
        return Err(Error::other("a directory or --play is required"));
    };
    if target == "--play" {
        return play();
    }
    for priority in SoundPriority::ALL {
        let path = Path::new(&target).join(format!("{priority:?}.wav").to_lowercase());
        std::fs::write(&path, wav(&burst(priority, Volume::default())))?;
        println!("{}", path.display());
    }
    Ok(())
}
