//! Overview columns: smallest and largest sample of each 1/60 s.

use proto_json::waveform::{
    Channel, Column, ColumnBlock, Frame, MISSING_SAMPLE, OVERVIEW_COLUMNS_PER_SECOND,
};

/// Longest time that a sample fills if its channel is slower than the columns, in columns.
const MAX_HOLD: i64 = OVERVIEW_COLUMNS_PER_SECOND;

/// Returns the columns of each segment of a frame whose first sample has this server time. A sample belongs to the column
/// in which it lies, and to all columns before the next sample.
pub(super) fn columns(frame: &Frame, time_us: i64, channels: &[Channel]) -> Vec<ColumnBlock> {
    let blocks = frame.timed_segments(time_us, channels).filter_map(|(start_us, segment)| {
        let rate = channels.get(usize::from(segment.channel))?.rate;
        let at = |index| {
            Column::at(
                start_us.saturating_add(rate.micros(segment.first + index) - rate.micros(segment.first)),
            )
        };
        let first = at(0);
        let mut columns: Vec<Column> = Vec::new();
        for (index, sample) in (0..).zip(&segment.samples) {
            let column = at(index);
            let end = at(index + 1).clamp(column + 1, column + MAX_HOLD);
            // Neither is negative or large: a frame has a limited length.
            let [from, to] = [column - first, end - first].map(|column| usize::try_from(column).unwrap_or(0));
            if columns.len() < to {
                columns.resize(to, Column::MISSING);
            }
            columns[from..to].iter_mut().for_each(|column| *column = including(*column, *sample));
        }
        Some(ColumnBlock { channel: segment.channel, lead_off: segment.lead_off, first, columns })
    });
    blocks.collect()
}

fn including(column: Column, sample: i16) -> Column {
    match (column, sample) {
        (column, MISSING_SAMPLE) => column,
        (Column::MISSING, sample) => Column { min: sample, max: sample },
        (Column { min, max }, sample) => Column { min: min.min(sample), max: max.max(sample) },
    }
}

#[cfg(test)]
mod tests {
    use proto_json::waveform::{SampleRate, Segment};

    use super::*;

    fn channel(numerator: u32, denominator: u32) -> Channel {
        Channel {
            label: "II".to_owned(),
            code: "MDC_ECG_LEAD_II".to_owned(),
            unit: "mV".to_owned(),
            rate: SampleRate::new(numerator, denominator).unwrap(),
            scale: 1.0,
            offset: 0.0,
        }
    }

    fn of(channel: Channel, time_us: i64, first: u64, samples: &[i16]) -> ColumnBlock {
        let segment = Segment { channel: 0, first, lead_off: true, samples: samples.to_vec() };
        let frame = Frame { sequence: 0, device_time_us: 0, segments: vec![segment] };
        columns(&frame, time_us, &[channel]).remove(0)
    }

    fn column(min: i16, max: i16) -> Column {
        Column { min, max }
    }

    #[test]
    fn column_has_the_extremes_of_its_samples() {
        // At 240 Hz, a column has four samples. The first one lies in the middle of column 60.
        let block = of(channel(240, 1), 1_008_334, 1_000, &[5, -3, 9, 2, MISSING_SAMPLE, 4, -7]);
        assert_eq!((block.first, block.lead_off), (60, true));
        assert_eq!(block.columns, [column(-3, 5), column(2, 9), column(-7, -7)]);
    }

    #[test]
    fn slow_channel_fills_all_columns_and_missing_samples_are_gaps() {
        let block = of(channel(20, 1), 0, 0, &[1, MISSING_SAMPLE, 3]);
        let expected = [column(1, 1), Column::MISSING, column(3, 3)].map(|column| [column; 3]).concat();
        assert_eq!(block.columns, expected);
        assert_eq!(of(channel(1, 60), 0, 1, &[8]).columns.len(), 60, "at most one second");
    }

    #[test]
    fn frames_of_a_second_cover_each_column_once_or_twice() {
        let channel = channel(250, 1);
        let mut counts = [0; 60];
        for frame in 0..5_u64 {
            let block = of(channel.clone(), frame as i64 * 200_000, frame * 50, &[1; 50]);
            for index in block.first..block.first + block.columns.len() as i64 {
                counts[index as usize] += 1;
            }
        }
        assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
    }
}
