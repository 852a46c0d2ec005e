// Keeps the records whose value ends in an even byte, with Redpanda's SDK as it is published.
use redpanda_transform_sdk::*;

fn main() {
    on_record_written(keep_even);
}

fn keep_even(event: WriteEvent, writer: &mut RecordWriter) -> Result<(), WriteError> {
    match event.record.value().and_then(|v| v.last()) {
        Some(last) if last % 2 == 0 => writer.write(event.record),
        _ => Ok(()),
    }
}
